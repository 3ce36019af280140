//! Where the numbers of a tensor lie in a file.

use std::path::PathBuf;
use std::rc::Rc;

use tch::Kind;

/// Where a tensor's numbers lie.
#[derive(Debug)]
pub(super) struct Place {
    pub file: Rc<PathBuf>,
    pub kind: Kind,
    pub shape: Vec<i64>,
    /// Elements from one index to the next of each axis.
    pub strides: Vec<i64>,
    /// Bytes from the file's start to the storage's.
    pub storage: u64,
    /// Elements of the storage.
    pub storage_len: i64,
    /// Elements from the storage's start to the tensor's.
    pub offset: i64,
}

/// Strides of a tensor whose elements lie side by side, the last axis fastest.
pub(super) fn dense_strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}
