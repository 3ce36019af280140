//! Processes that share one computation: what they say to each other, whatever carries it.

use std::fmt;
use std::ops::Range;

use tch::{Device, Tensor};

/// The processes of one run, of which this is one; MPI calls them ranks.
///
/// Every rank makes the same calls in the same order, from one thread, and waits in each for the others.
pub trait Ranks: fmt::Debug + Sync {
    /// The number of this one, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Every number becomes the sum over all ranks, the same bits on each.
    fn sum_f32(&self, numbers: &mut [f32]);

    /// The same of f64.
    fn sum_f64(&self, numbers: &mut [f64]);

    /// The bytes become those of rank `root`.
    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>);

    /// The bytes of every rank, on every rank.
    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>>;

    /// Waits until all are here.
    fn barrier(&self);

    /// What the calls above have cost this rank so far.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// Which of `count` rows are this one's: the ranks' parts lie one behind the other, and their lengths differ by one
    /// at most.
    fn part(&self, count: usize) -> Range<usize> {
        let (rank, size) = (self.rank(), self.size());
        count * rank / size..count * (rank + 1) / size
    }

    /// Whether this is the only one.
    fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// Whether this is the first, which writes and speaks for all.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The sum of one number of each rank.
    fn sum(&self, here: f64) -> f64 {
        let mut sum = [here];
        self.sum_f64(&mut sum);
        sum[0]
    }

    /// How many all ranks count together.
    fn count(&self, here: usize) -> usize {
        self.sum(here as f64) as usize
    }

    /// Whether any rank says so.
    fn any(&self, here: bool) -> bool {
        let mut found = [f32::from(u8::from(here))];
        self.sum_f32(&mut found);
        found[0] > 0.0
    }
}

/// What a rank's calls have cost it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Seconds that it waited for the others and for what they sent.
    pub secs: f64,
    /// Bytes that it gave.
    pub bytes: u64,
}

/// A process of its own.
#[derive(Clone, Copy, Debug)]
pub struct OneRank;

impl Ranks for OneRank {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum_f32(&self, _: &mut [f32]) {}

    fn sum_f64(&self, _: &mut [f64]) {}

    fn broadcast(&self, _: usize, _: &mut Vec<u8>) {}

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        vec![bytes.to_vec()]
    }

    fn barrier(&self) {}
}

/// Every tensor `[…]` of f32 becomes its sum over all ranks, and so does every number, as f32, in one message.
pub fn sum_over(ranks: &dyn Ranks, tensors: &[Tensor], numbers: &mut [f64]) {
    if ranks.is_alone() {
        return;
    }
    let flat = |tensor: &Tensor| tensor.detach().to_device(Device::Cpu).flatten(0, -1);
    let mut message: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
    for tensor in tensors {
        message.extend(Vec::<f32>::try_from(flat(tensor)).expect("they are f32"));
    }
    ranks.sum_f32(&mut message);
    let (sums, mut rest) = message.split_at(numbers.len());
    numbers.iter_mut().zip(sums).for_each(|(number, sum)| *number = f64::from(*sum));
    for tensor in tensors {
        let (own, others) = rest.split_at(tensor.numel());
        tch::no_grad(|| tensor.shallow_clone().copy_(&Tensor::from_slice(own).view_as(tensor)));
        rest = others;
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{Arc, Barrier, Mutex};

    use super::*;

    /// Ranks that are threads of one process.
    #[derive(Clone, Debug)]
    pub struct Threads {
        rank: usize,
        said: Arc<Vec<Mutex<Vec<u8>>>>,
        all_here: Arc<Barrier>,
    }

    impl Threads {
        /// Runs `work` on so many ranks, and gives what each says.
        pub fn run<T: Send>(size: usize, work: impl Fn(&'static Self) -> T + Sync) -> Vec<T> {
            let said = Arc::new((0..size).map(|_| Mutex::default()).collect::<Vec<_>>());
            let all_here = Arc::new(Barrier::new(size));
            std::thread::scope(|scope| {
                let ranks: Vec<_> = (0..size)
                    .map(|rank| {
                        let own = Self { rank, said: said.clone(), all_here: all_here.clone() };
                        let own: &'static Self = Box::leak(Box::new(own));
                        let work = &work;
                        scope.spawn(move || work(own))
                    })
                    .collect();
                ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
            })
        }
    }

    impl Ranks for Threads {
        fn rank(&self) -> usize {
            self.rank
        }

        fn size(&self) -> usize {
            self.said.len()
        }

        fn sum_f32(&self, numbers: &mut [f32]) {
            let mut wide: Vec<f64> = numbers.iter().map(|number| f64::from(*number)).collect();
            self.sum_f64(&mut wide);
            numbers.iter_mut().zip(wide).for_each(|(number, sum)| *number = sum as f32);
        }

        fn sum_f64(&self, numbers: &mut [f64]) {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let all = self.gather(&bytes);
            numbers.fill(0.0);
            for bytes in all {
                let (chunks, _) = bytes.as_chunks();
                numbers.iter_mut().zip(chunks).for_each(|(sum, chunk)| *sum += f64::from_le_bytes(*chunk));
            }
        }

        fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) {
            *bytes = self.gather(bytes).swap_remove(root);
        }

        fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
            *self.said[self.rank].lock().unwrap() = bytes.to_vec();
            self.barrier();
            let all = self.said.iter().map(|said| said.lock().unwrap().clone()).collect();
            self.barrier();
            all
        }

        fn barrier(&self) {
            self.all_here.wait();
        }
    }

    #[test]
    fn parts_cover_all_rows_once() {
        for (count, size) in [(10, 3), (2, 3), (0, 2), (7, 1)] {
            let parts = Threads::run(size, |ranks| ranks.part(count));
            let all: Vec<usize> = parts.into_iter().flatten().collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }
}
