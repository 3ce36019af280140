//! Ranks whose sums `torch.distributed` carries.

use std::sync::Mutex;

use eva_rl_agents::ranks::Ranks;
use pyo3::prelude::*;
use pyo3_tch::PyTensor;
use tch::Tensor;

/// The processes of one group, each with a model of its own.
#[derive(Debug)]
pub struct TorchRanks {
    rank: usize,
    size: usize,
    /// Sums a float64 tensor over all, in place.
    all_reduce: PyObject,
    /// What it raised.
    raised: Mutex<Option<PyErr>>,
}

impl TorchRanks {
    /// This process is `rank` of `size`.
    pub fn new(rank: usize, size: usize, all_reduce: PyObject) -> Self {
        Self { rank, size, all_reduce, raised: Mutex::default() }
    }

    /// The exception of a sum that failed; the numbers after it mean nothing.
    pub fn check(&self) -> PyResult<()> {
        self.raised.lock().expect("nothing panics with it").take().map_or(Ok(()), Err)
    }

    fn sum(&self, numbers: &mut [f64]) -> PyResult<()> {
        let sums = Tensor::from_slice(numbers); // [N]
        Python::with_gil(|py| self.all_reduce.call1(py, (PyTensor(sums.shallow_clone()),)))?;
        sums.copy_data(numbers, numbers.len());
        Ok(())
    }
}

impl Ranks for TorchRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum_f32(&self, numbers: &mut [f32]) {
        let mut wide: Vec<f64> = numbers.iter().copied().map(f64::from).collect();
        self.sum_f64(&mut wide);
        numbers.iter_mut().zip(wide).for_each(|(number, sum)| *number = sum as f32);
    }

    fn sum_f64(&self, numbers: &mut [f64]) {
        if let Err(error) = self.sum(numbers) {
            *self.raised.lock().expect("nothing panics with it") = Some(error);
        }
    }

    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) {
        *bytes = self.gather(bytes).swap_remove(root);
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lengths = vec![0.0; self.size];
        lengths[self.rank] = bytes.len() as f64;
        self.sum_f64(&mut lengths);
        let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
        let start: usize = lengths[..self.rank].iter().sum();
        let mut all = vec![0.0; lengths.iter().sum()];
        all[start..start + bytes.len()]
            .iter_mut()
            .zip(bytes)
            .for_each(|(number, byte)| *number = f64::from(*byte));
        self.sum_f64(&mut all);
        let mut rest = all.as_slice();
        let mut take = |length| {
            let (own, others) = rest.split_at(length);
            rest = others;
            own.iter().map(|number| *number as u8).collect()
        };
        lengths.into_iter().map(&mut take).collect()
    }

    fn barrier(&self) {
        self.sum_f64(&mut []);
    }
}
