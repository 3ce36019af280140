//! Numbers of trajectories, in memory or where they lie in their file.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use hdf5_pure::{FormatError, Source};
use memmap2::Mmap;

/// Bytes of a number.
const WIDTH: usize = size_of::<f32>();

/// Numbers in memory, or in a mapped file: the machine reads its pages when they are asked for, and lets go of
/// them when memory is short, so a dataset may be larger than memory.
///
/// A file must not be written while it is mapped; replacing it or deleting it is no harm.
#[derive(Clone, Debug)]
pub enum Numbers {
    /// In memory.
    Held(Vec<f32>),
    /// These bytes of a file, in little-endian float32; HDF5 does not align them.
    Mapped(MappedFile, Range<usize>),
}

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Held(numbers) => numbers.len(),
            Self::Mapped(_, bytes) => bytes.len() / WIDTH,
        }
    }

    /// All of them.
    pub fn all(&self) -> Cow<'_, [f32]> {
        self.range(0..self.len())
    }

    /// Row `row` of rows of `width`.
    pub fn row(&self, row: usize, width: usize) -> Cow<'_, [f32]> {
        self.range(row * width..(row + 1) * width)
    }

    fn range(&self, range: Range<usize>) -> Cow<'_, [f32]> {
        match self {
            Self::Held(numbers) => Cow::Borrowed(&numbers[range]),
            Self::Mapped(file, bytes) => {
                let bytes = &file.0[bytes.clone()][range.start * WIDTH..range.end * WIDTH];
                let (numbers, _) = bytes.as_chunks();
                numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()
            }
        }
    }

    /// The numbers in memory, where they can be changed; mapped ones are copied there first.
    pub fn to_mut(&mut self) -> &mut Vec<f32> {
        if let Self::Mapped(..) = self {
            *self = Self::Held(self.all().into_owned());
        }
        match self {
            Self::Held(numbers) => numbers,
            Self::Mapped(..) => unreachable!("it was copied"),
        }
    }
}

impl From<Vec<f32>> for Numbers {
    fn from(numbers: Vec<f32>) -> Self {
        Self::Held(numbers)
    }
}

impl FromIterator<f32> for Numbers {
    fn from_iter<I: IntoIterator<Item = f32>>(numbers: I) -> Self {
        Self::Held(numbers.into_iter().collect())
    }
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all()
    }
}

/// A file's bytes, as if they were in memory.
#[derive(Clone, Debug)]
pub struct MappedFile(Arc<Mmap>);

impl MappedFile {
    /// Maps a file that nobody writes.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        #[allow(unsafe_code)] // the numbers of a file that somebody writes meanwhile are not to be trusted
        let map = unsafe { Mmap::map(&file) }?;
        Ok(Self(Arc::new(map)))
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The `size` bytes from `address` on as little-endian float32, if they lie in the file.
    pub fn numbers(&self, address: u64, size: u64) -> Option<Numbers> {
        let start = usize::try_from(address).ok()?;
        let bytes = start..start.checked_add(usize::try_from(size).ok()?)?;
        let whole = self.0.get(bytes.clone())?.len().is_multiple_of(WIDTH);
        whole.then(|| Numbers::Mapped(self.clone(), bytes))
    }
}

impl Source for MappedFile {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FormatError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.0.get(start..).and_then(|rest| rest.get(..buffer.len()));
        let available = self.0.len().saturating_sub(start);
        let expected = buffer.len();
        buffer.copy_from_slice(bytes.ok_or(FormatError::UnexpectedEof { expected, available })?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_where_they_lie_aligned_or_not() {
        let folder = tempfile::tempdir().unwrap();
        for padding in 0..5 {
            let path = folder.path().join(padding.to_string());
            let mut bytes = vec![9; padding];
            bytes.extend([0.0f32, 1.5, -2.0, 3.0].map(f32::to_le_bytes).as_flattened());
            std::fs::write(&path, bytes).unwrap();
            let file = MappedFile::open(&path).unwrap();
            let numbers = file.numbers(padding as u64, 16).unwrap();
            assert_eq!((numbers.len(), &*numbers.row(1, 2)), (4, [-2.0, 3.0].as_slice()));
            assert_eq!(*numbers.all(), [0.0, 1.5, -2.0, 3.0]);
            for (address, size) in [(0, 7), (8, 16), (u64::MAX, 8), (4, u64::MAX)] {
                assert!(file.numbers(address, size).is_none(), "{size} bytes from {address}");
            }
        }
    }
}
