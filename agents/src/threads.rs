//! Work that two threads share.

use std::panic::resume_unwind;

/// Does both side by side, each on a thread with half of libtorch's threads; one after the other where there is
/// only one.
pub(crate) fn side_by_side<A, B: Send>(
    first: impl FnOnce() -> A,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    let threads = tch::get_num_threads();
    if threads < 2 {
        return (first(), second());
    }
    let both = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            tch::set_num_threads(threads / 2);
            second()
        });
        tch::set_num_threads(threads / 2);
        let first = first();
        (first, other.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    tch::set_num_threads(threads);
    both
}
