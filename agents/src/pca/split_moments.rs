//! The same sums over two halves of the data.

use super::moments::{Moments, NotFinite};
use crate::tensor::Rows;

/// Moments over two halves of the data, which share no row, so that their errors are independent.
///
/// The first rows decide what is summed; before them there is nothing.
#[derive(Debug, Default)]
pub(super) struct SplitMoments(Option<[Moments; 2]>);

impl SplitMoments {
    /// Takes rows into the half that has fewer; `start` makes the sums that the first rows want.
    pub fn add(
        &mut self,
        rows: &Rows,
        start: impl FnOnce() -> Result<Moments, NotFinite>,
    ) -> Result<(), NotFinite> {
        if self.0.is_none() {
            let start = start()?;
            self.0 = Some([start.copy(), start]);
        }
        let [first, second] = self.started_mut().expect("they were started");
        let half = if first.rows() <= second.rows() { first } else { second };
        half.add(rows)
    }

    /// Both, for rows that are split already.
    pub fn started_mut(&mut self) -> Option<&mut [Moments; 2]> {
        self.0.as_mut()
    }

    /// Rows seen so far.
    pub fn rows(&self) -> i64 {
        self.0.iter().flatten().map(Moments::rows).sum()
    }

    /// The sums over all rows, of which there is at least one.
    pub fn whole(&self) -> Moments {
        let [first, second] = self.0.as_ref().expect("rows were seen");
        first.plus(second)
    }

    /// What `find` finds in each, if both have so many rows.
    pub fn each<T>(&self, rows: i64, find: impl Fn(&Moments) -> T) -> Option<[T; 2]> {
        let halves = self.0.as_ref()?;
        halves.iter().all(|half| half.rows() >= rows).then(|| halves.each_ref().map(find))
    }
}
