//! The same sums over two halves of the data.

use super::moments::{Moments, NotFinite};
use crate::ranks::Ranks;
use crate::tensor::Rows;

/// Moments over two halves of the data, which share no row, so that their errors are independent.
///
/// The first rows decide what is summed; before them there is nothing.
#[derive(Debug, Default)]
pub(super) struct SplitMoments {
    /// Over this rank's rows that no other has heard of.
    own: Option<[Moments; 2]>,
    /// Over the rows that all ranks know; nothing where there is one.
    shared: Option<[Moments; 2]>,
}

impl SplitMoments {
    /// Takes rows into the half that has fewer; `start` makes the sums that the first rows want.
    pub fn add(
        &mut self,
        rows: &Rows,
        start: impl FnOnce() -> Result<Moments, NotFinite>,
    ) -> Result<(), NotFinite> {
        if self.own.is_none() {
            let start = start()?;
            self.own = Some([start.copy(), start]);
        }
        let [first, second] = self.started_mut().expect("they were started");
        let half = if first.rows() <= second.rows() { first } else { second };
        half.add(rows)
    }

    /// Both, for rows that are split already.
    pub fn started_mut(&mut self) -> Option<&mut [Moments; 2]> {
        self.own.as_mut()
    }

    /// Forgets this rank's rows, and not what is summed.
    pub fn forget(&mut self) {
        self.own = self.own.take().map(|halves| halves.map(|half| half.cleared()));
    }

    /// Every rank knows the rows of all from here on; all have begun with the same rows. The halves travel once: twice
    /// width times columns numbers, however many rows there were.
    pub fn share(&mut self, ranks: &dyn Ranks) {
        let Some(own) = &self.own else { return };
        let mut numbers: Vec<f64> = own.iter().flat_map(Moments::numbers).collect();
        ranks.sum_f64(&mut numbers);
        let mut all = own.each_ref().map(Moments::cleared);
        let length = numbers.len() / 2;
        all.iter_mut().zip(numbers.chunks(length)).for_each(|(half, numbers)| half.set_numbers(numbers));
        self.shared = Some(match &self.shared {
            None => all,
            Some([first, second]) => [first.plus(&all[0]), second.plus(&all[1])],
        });
        self.forget();
    }

    /// What `find` finds in both halves, with what all ranks know; none before the first rows.
    fn with_halves<T>(&self, find: impl FnOnce([&Moments; 2]) -> T) -> Option<T> {
        let [first, second] = self.own.as_ref()?;
        Some(match &self.shared {
            None => find([first, second]),
            Some(shared) => find([&first.plus(&shared[0]), &second.plus(&shared[1])]),
        })
    }

    /// Rows seen so far.
    pub fn rows(&self) -> i64 {
        self.own.iter().chain(&self.shared).flatten().map(Moments::rows).sum()
    }

    /// The sums over all rows, of which there is at least one.
    pub fn whole(&self) -> Moments {
        self.with_halves(|[first, second]| first.plus(second)).expect("rows were seen")
    }

    /// What `find` finds in each, if both have so many rows.
    pub fn each<T>(&self, rows: i64, find: impl Fn(&Moments) -> T) -> Option<[T; 2]> {
        self.with_halves(|halves| halves.iter().all(|half| half.rows() >= rows).then(|| halves.map(find)))?
    }
}
