//! One file of named tensors, or the shards of one, opened as a table of places.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::place::{Place, dense_strides};
use super::{safetensors, torch_zip};

/// How a pointer of Git LFS begins, which lies where a large file was not fetched.
const LFS: &str = "version https://git-lfs";

/// Bytes that are read at a time.
const PIECE: usize = 1 << 21;

/// Why tensors cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// The file, or what it says of itself.
    #[error("cannot read {path:?}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },

    /// One tensor of it.
    #[error("{path:?} holds `{name}` {reason}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What was found, and wanted.
        reason: String,
    },
}

/// Tensors of one file, or of the shards of one, none of them read yet.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    places: BTreeMap<String, Place>,
}

impl TensorFile {
    /// Opens the tensors called `stem` in a folder, in the order in which transformers and PEFT look:
    /// `STEM.safetensors`, its shards, then the `.bin` of `pickle_stem`, its shards; and last `STEM.pth`, the name that
    /// authors of policies give theirs.
    pub fn find(folder: &Path, stem: &str, pickle_stem: &str) -> Result<Self, TensorFileError> {
        let whole = folder.join(format!("{stem}.safetensors"));
        for (stem, end) in [(stem, "safetensors"), (pickle_stem, "bin")] {
            let single = folder.join(format!("{stem}.{end}"));
            if single.is_file() {
                return Self::open(&single);
            }
            let index = folder.join(format!("{stem}.{end}.index.json"));
            if index.is_file() {
                return Self::open_shards(&index);
            }
        }
        let single = folder.join(format!("{stem}.pth"));
        if single.is_file() {
            return Self::open(&single);
        }
        let reason = format!("there is no such file, nor {pickle_stem}.bin, nor an index of shards");
        Err(TensorFileError::Read { path: whole, reason })
    }

    /// Opens one file: PyTorch's where it begins as a zip archive or is named as one, safetensors where not.
    pub fn open(path: &Path) -> Result<Self, TensorFileError> {
        let refuse = |reason: String| TensorFileError::Read { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(|error| refuse(error.to_string()))?;
        let mut start = [0; LFS.len()];
        let known = file.read(&mut start).and_then(|known| file.rewind().map(|()| known));
        let start = &start[..known.map_err(|error| refuse(error.to_string()))?];
        if start == LFS.as_bytes() {
            let reason = "it is a pointer to the file in Git LFS; `git lfs pull` gets the file itself";
            return Err(refuse(reason.to_owned()));
        }
        let named = path
            .extension()
            .is_some_and(|end| ["bin", "pt", "pth", "ckpt"].iter().any(|known| end == *known));
        let is_torch = named || start.starts_with(b"PK\x03\x04");
        let shared = Rc::new(path.to_owned());
        let places =
            if is_torch { torch_zip::places(file, &shared) } else { safetensors::places(file, &shared) };
        Ok(Self { path: path.to_owned(), places: places.map_err(refuse)? })
    }

    /// Opens the shards that an index names, each in the index's own folder.
    fn open_shards(index: &Path) -> Result<Self, TensorFileError> {
        let refuse = |reason| TensorFileError::Read { path: index.to_owned(), reason };
        let text = crate::read_text(index).map_err(|error| refuse(error.to_string()))?;
        let index_json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        let Some(weight_map) = index_json["weight_map"].as_object() else {
            return Err(refuse("it has no table `weight_map` from tensors to files".to_owned()));
        };
        let folder = index.parent().unwrap_or(Path::new("."));
        let mut shards: BTreeMap<&str, Self> = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (name, shard) in weight_map {
            let shard = shard.as_str().unwrap_or_default();
            if Path::new(shard).file_name().is_none_or(|file| file != shard) {
                let reason =
                    format!("`weight_map` puts `{name}` into {shard:?}, expected a file's bare name");
                return Err(refuse(reason));
            }
            if !shards.contains_key(shard) {
                shards.insert(shard, Self::open(&folder.join(shard))?);
            }
            let file = shards.get_mut(shard).expect("the shard was just opened");
            let Some(place) = file.places.remove(name) else {
                let reason = format!("`weight_map` puts `{name}` into {shard:?}, which does not hold it");
                return Err(refuse(reason));
            };
            places.insert(name.clone(), place);
        }
        Ok(Self { path: index.to_owned(), places })
    }

    /// Whether a file is a TorchScript module.
    pub fn is_torch_script(path: &Path) -> bool {
        File::open(path).is_ok_and(torch_zip::is_torch_script)
    }

    /// The same tensors, without what stands before `known` and before every name of its model: `module.`,
    /// `_orig_mod.`, or the name that a larger model has for this one. Nothing changes where `known` is there, or
    /// is ambiguous.
    pub fn without_prefix(mut self, known: &str) -> Self {
        let end = format!(".{known}");
        let mut prefixes = self.places.keys().filter_map(|name| name.strip_suffix(&end));
        let (Some(prefix), None) = (prefixes.next(), prefixes.next()) else { return self };
        if self.places.contains_key(known) {
            return self;
        }
        let prefix = format!("{prefix}.");
        let renamed = |name: String| name.strip_prefix(&prefix).map_or(name.clone(), str::to_owned);
        self.places = self.places.into_iter().map(|(name, place)| (renamed(name), place)).collect();
        self
    }

    /// The same tensors, that of the name `alias` under `name` where nothing is called so.
    pub fn renamed(mut self, alias: &str, name: &str) -> Self {
        if !self.places.contains_key(name)
            && let Some(place) = self.places.remove(alias)
        {
            self.places.insert(name.to_owned(), place);
        }
        self
    }

    /// The file, or the index of its shards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// A tensor's shape, if the file holds it.
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.places.get(name).map(|place| place.shape.as_slice())
    }

    /// Reads a tensor that the file holds, in the kind that the file keeps, on the CPU.
    pub fn read(&self, name: &str) -> Result<Tensor, TensorFileError> {
        let place = &self.places[name];
        self.read_as(name, place.kind, &|_| Ok(()))
    }

    /// Reads a tensor that the file holds as f32, and refuses numbers that are none.
    pub fn read_weight(&self, name: &str, device: Device) -> Result<Tensor, TensorFileError> {
        self.read_weight_as(name, Kind::Float, device)
    }

    /// The same in the kind that the file keeps where that has 16 bits, and in f32 where not.
    pub fn read_compact_weight(&self, name: &str, device: Device) -> Result<Tensor, TensorFileError> {
        let kind = match self.places[name].kind {
            half @ (Kind::Half | Kind::BFloat16) => half,
            _ => Kind::Float,
        };
        self.read_weight_as(name, kind, device)
    }

    fn read_weight_as(&self, name: &str, kind: Kind, device: Device) -> Result<Tensor, TensorFileError> {
        let place = &self.places[name];
        let refuse = |reason: String| TensorFileError::Tensor {
            path: place.file.to_path_buf(),
            name: name.to_owned(),
            reason,
        };
        if !matches!(place.kind, Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double) {
            return Err(refuse(format!("as {:?}, expected floating-point numbers", place.kind)));
        }
        let check = |piece: &Tensor| match piece.isfinite().all().int64_value(&[]) {
            0 => Err(refuse("with NaN or infinity in it, expected finite numbers".to_owned())),
            _ => Ok(()),
        };
        Ok(self.read_as(name, kind, &check)?.to_device(device))
    }

    /// Every tensor by its name, as [`TensorFile::read`] gives them.
    pub fn read_all(&self) -> Result<BTreeMap<String, Tensor>, TensorFileError> {
        self.names().map(|name| Ok((name.to_owned(), self.read(name)?))).collect()
    }

    /// Reads a tensor of any shape as `kind`; `check` sees each piece `[n]` in the kind of the file.
    fn read_as(
        &self,
        name: &str,
        kind: Kind,
        check: &dyn Fn(&Tensor) -> Result<(), TensorFileError>,
    ) -> Result<Tensor, TensorFileError> {
        let place = &self.places[name];
        let refuse = |reason: String| TensorFileError::Read { path: place.file.to_path_buf(), reason };
        let count = place.shape.iter().product::<i64>();
        let is_dense = place.strides == dense_strides(&place.shape);
        let (first, length) = if is_dense { (place.offset, count) } else { (0, place.storage_len) };

        let width = place.kind.elt_size_in_bytes();
        let mut file = File::open(&*place.file).map_err(|error| refuse(error.to_string()))?;
        file.seek(SeekFrom::Start(place.storage + first as u64 * width as u64))
            .map_err(|error| refuse(error.to_string()))?;
        let flat = Tensor::empty([length], (kind, Device::Cpu));
        let mut bytes = Vec::new();
        let mut done = 0;
        while done < length {
            let part = (length - done).min((PIECE / width) as i64);
            bytes.resize(part as usize * width, 0);
            file.read_exact(&mut bytes).map_err(|error| refuse(error.to_string()))?;
            let piece = Tensor::from_data_size(&bytes, &[part], place.kind);
            check(&piece)?;
            flat.narrow(0, done, part).copy_(&piece);
            done += part;
        }
        if is_dense {
            return Ok(flat.view(place.shape.as_slice()));
        }
        Ok(flat.as_strided(&place.shape, &place.strides, place.offset).contiguous())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::file::write;

    #[test]
    fn a_tensor_larger_than_a_piece_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.safetensors");
        let long = Tensor::arange(2 * (PIECE as i64) / 4 + 7, (Kind::Float, Device::Cpu)).view([-1, 1]);
        write(&[("long".to_owned(), long.shallow_clone())], &path).unwrap();
        let found = TensorFile::open(&path).unwrap().read_weight("long", Device::Cpu).unwrap();
        assert_eq!(found, long);
    }

    #[test]
    fn every_kind_becomes_f32_and_keeps_its_own_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kinds.safetensors");
        let numbers = Tensor::from_slice(&[0.5f32, -2.0, 1024.0]);
        for kind in [Kind::Float, Kind::Half, Kind::BFloat16, Kind::Double] {
            numbers.to_kind(kind).write_safetensors_for_test(&path);
            let file = TensorFile::open(&path).unwrap();
            assert_eq!(file.read_weight("x", Device::Cpu).unwrap(), numbers);
            assert_eq!(file.read("x").unwrap().kind(), kind);
            let compact = file.read_compact_weight("x", Device::Cpu).unwrap();
            assert_eq!(compact.kind(), if kind == Kind::Double { Kind::Float } else { kind });
            assert_eq!(compact.to_kind(Kind::Float), numbers);
        }
    }

    trait ForTest {
        fn write_safetensors_for_test(&self, path: &Path);
    }

    impl ForTest for Tensor {
        fn write_safetensors_for_test(&self, path: &Path) {
            Tensor::write_safetensors(&[("x", self)], path).unwrap();
        }
    }

    #[test]
    fn infinity_is_refused_by_the_tensor_s_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("infinite.safetensors");
        write(&[("w".to_owned(), Tensor::from_slice(&[1.0f32, f32::INFINITY]))], &path).unwrap();
        let error = TensorFile::open(&path).unwrap().read_weight("w", Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("`w` with NaN or infinity"), "{error}");
    }
}
