//! Numbers of any type in an HDF5 file, believed within what the file can hold.

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;

use half::f16;
use hdf5_pure::{Datatype, DatatypeByteOrder, File, Group, Layout, Source, make_f32_type};

use super::numbers::{MappedFile, Numbers};
use super::reading::hdf5_reason;

/// Bytes that a byte of a file may stand for, which is as many as deflate can make of one.
const MAX_COMPRESSION: u64 = 1032;

/// Numbers of a chunk that may be larger than its dataset.
const MAX_CHUNK: u64 = 1 << 20;

/// Names of what says, in the infos, that an episode has succeeded.
pub(super) const SUCCESS: [&str; 2] = ["success", "is_success"];

/// An HDF5 file, mapped.
pub(super) struct Stored {
    pub file: File,
    mapped: MappedFile,
    /// Bytes that its datasets may still come to: names may lead to the same numbers again and again.
    budget: Cell<u64>,
}

impl Stored {
    /// Maps a file that nobody writes.
    pub fn open(path: &Path) -> Result<Self, String> {
        let mapped = MappedFile::open(path).map_err(|error| error.to_string())?;
        let file = File::from_source(mapped.clone()).map_err(|error| hdf5_reason(&error))?;
        let budget = Cell::new(mapped.len().saturating_mul(MAX_COMPRESSION));
        Ok(Self { file, mapped, budget })
    }

    /// A float or integer dataset of any shape, in row order.
    pub fn numbers(&self, group: &Group, name: &str) -> Result<Numbers, String> {
        let mapped = || -> Result<Option<Numbers>, hdf5_pure::Error> {
            let dataset = group.dataset(name)?;
            if let Layout::Contiguous { address: Some(address), size } = dataset.layout()?
                && dataset.datatype()? == make_f32_type()
            {
                return Ok(self.mapped.numbers(address, size));
            }
            Ok(None)
        };
        match mapped() {
            Ok(Some(numbers)) => Ok(numbers),
            _ => Ok(self.floats(group, name)?.into_iter().map(|x| x as f32).collect()),
        }
    }

    /// The same in float64, in memory.
    pub fn floats(&self, group: &Group, name: &str) -> Result<Vec<f64>, String> {
        floats(&self.checked(group, name)?, name, 0..u64::MAX)
    }

    /// Strings.
    pub fn texts(&self, group: &Group, name: &str) -> Result<Vec<String>, String> {
        let unreadable =
            |error: hdf5_pure::Error| format!("`{name}` cannot be read as texts: {}", hdf5_reason(&error));
        let dataset = group.dataset(name).map_err(unreadable)?;
        // A string's place takes 16 bytes; what it holds lies elsewhere in the file.
        let places = dataset.shape().map_err(unreadable)?.into_iter().fold(16, u64::saturating_mul);
        self.spend(places)?;
        let texts = dataset.read_string().map_err(unreadable)?;
        self.spend(texts.iter().map(|text| text.len() as u64).sum())?;
        Ok(texts)
    }

    /// Booleans, which h5py keeps as an enumeration of one byte, or numbers of any type that are 0 or not.
    pub fn flags(&self, group: &Group, name: &str) -> Result<Vec<bool>, String> {
        let dataset = self.checked(group, name)?;
        let flags = if dataset.element_size().ok() == Some(1) {
            dataset.read_raw().map(|bytes| bytes.into_iter().map(|byte| byte != 0).collect())
        } else {
            dataset.read_f64().map(|numbers| numbers.into_iter().map(|number| number != 0.0).collect())
        };
        flags.map_err(|error| format!("`{name}` cannot be read as booleans: {}", hdf5_reason(&error)))
    }

    /// A dataset whose size can be believed: damaged bytes may ask for petabytes.
    pub fn checked(&self, group: &Group, name: &str) -> Result<hdf5_pure::Dataset, String> {
        let numbers = |sides: Vec<u64>| sides.into_iter().try_fold(1_u64, u64::checked_mul);
        let checked = || -> Result<_, hdf5_pure::Error> {
            let dataset = group.dataset(name)?;
            let (values, size) = (numbers(dataset.shape()?), dataset.element_size()?);
            let chunk = numbers(dataset.chunk_shape()?.unwrap_or_default());
            Ok((dataset, values, chunk, size))
        };
        let unreadable = |error: hdf5_pure::Error| {
            let reason = hdf5_reason(&error);
            let newer = if reason.contains("data layout version") {
                "; HDF5 2.0 writes that where h5py is given libver=\"latest\"; what libver=\"v114\" writes is read"
            } else {
                ""
            };
            format!("`{name}` cannot be read: {reason}{newer}")
        };
        let (dataset, values, chunk, size) = checked().map_err(unreadable)?;
        let too_large = || format!("`{name}` is more than the file can hold");
        let (values, chunk) = values.zip(chunk).ok_or_else(too_large)?;
        if chunk > values.max(MAX_CHUNK) || size > 8 {
            return Err(too_large());
        }
        self.spend(values.checked_mul(size).ok_or_else(too_large)?).map_err(|_| too_large())?;
        Ok(dataset)
    }

    /// Takes bytes off what the file may come to.
    pub fn spend(&self, bytes: u64) -> Result<(), String> {
        let left = self.budget.get().checked_sub(bytes);
        self.budget.set(left.ok_or("the dataset is more than its file can hold")?);
        Ok(())
    }
}

/// Rows of a dataset whose size is believed, as float64.
pub(super) fn floats(dataset: &hdf5_pure::Dataset, name: &str, rows: Range<u64>) -> Result<Vec<f64>, String> {
    let (start, count) = (rows.start, rows.end - rows.start);
    let numbers = match dataset.datatype() {
        Ok(Datatype::FloatingPoint { size: 2, byte_order, .. }) => {
            dataset.read_raw_rows(start, count).map(|bytes| halves(&bytes, byte_order))
        }
        _ => dataset.read_f64_rows(start, count),
    };
    numbers.map_err(|error| format!("`{name}` cannot be read as numbers: {}", hdf5_reason(&error)))
}

/// float16, which the HDF5 crate does not convert.
fn halves(bytes: &[u8], order: DatatypeByteOrder) -> Vec<f64> {
    let (pairs, _) = bytes.as_chunks::<2>();
    let half = |pair: &[u8; 2]| match order {
        DatatypeByteOrder::BigEndian => f16::from_be_bytes(*pair),
        _ => f16::from_le_bytes(*pair),
    };
    pairs.iter().map(|pair| half(pair).to_f64()).collect()
}
