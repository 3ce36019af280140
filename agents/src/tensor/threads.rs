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

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::thread;

    use super::*;

    #[test]
    fn both_are_done_with_half_of_the_threads_each_and_all_are_given_back() {
        let threads = tch::get_num_threads();
        let look = || (thread::current().id(), tch::get_num_threads());
        let ((here, of_first), (there, of_second)) = side_by_side(look, look);
        assert_eq!(here, thread::current().id());
        assert_eq!(here == there, threads < 2);
        assert_eq!([of_first, of_second], [(threads / 2).max(1); 2]);
        assert_eq!(tch::get_num_threads(), threads);
    }

    #[test]
    fn what_the_other_thread_panics_with_is_this_one_s() {
        let panicked = catch_unwind(|| side_by_side(|| 1, || -> i32 { panic!("the other half") }));
        assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"the other half"));
    }
}
