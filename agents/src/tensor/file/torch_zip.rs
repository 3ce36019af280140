//! PyTorch's own files since 1.6: an uncompressed zip of one pickle and the storages that it names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::rc::Rc;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{MAX_PICKLE, Stored, state_dict};
use super::place::Place;

/// Whether a zip archive holds TorchScript's code, which a state dict does not.
pub(super) fn is_torch_script(file: File) -> bool {
    let Ok(archive) = ZipArchive::new(file) else { return false };
    archive.file_names().flatten().any(|name| name.contains("/code/"))
}

/// The tensors of a state dict that `torch.save` wrote.
pub(super) fn places(file: File, path: &Rc<PathBuf>) -> Result<BTreeMap<String, Place>, String> {
    let mut archive = ZipArchive::new(file).map_err(|error| {
        format!(
            "it is no TorchScript module, and no zip archive as torch.save has written since PyTorch 1.6; load an older file in Python and save it again ({error})"
        )
    })?;
    let mut names = Vec::new();
    for name in archive.file_names() {
        names.push(name.map_err(|error| format!("its table of files is broken: {error}"))?.into_owned());
    }
    let pickle_name = names
        .iter()
        .find(|name| name.ends_with("/data.pkl"))
        .ok_or("it is a zip archive without a `data.pkl`, as torch.save would write")?;
    let root = pickle_name.trim_end_matches("data.pkl").to_owned();
    if names.iter().any(|name| name.starts_with(&format!("{root}code/"))) {
        return Err("it is a TorchScript module, expected a state dict".to_owned());
    }
    if let Ok(mut order) = archive.by_name(&format!("{root}byteorder")) {
        let mut text = String::new();
        let _ = order.by_ref().take(16).read_to_string(&mut text);
        if text != "little" {
            return Err(format!("its byte order is {text:?}, expected \"little\""));
        }
    }
    let mut pickle = Vec::new();
    archive
        .by_name(pickle_name)
        .and_then(|entry| Ok(entry.take(MAX_PICKLE + 1).read_to_end(&mut pickle)?))
        .map_err(|error| format!("its `data.pkl` is broken: {error}"))?;

    let mut places = BTreeMap::new();
    for (name, stored) in state_dict(&pickle)? {
        let Stored { key, kind, storage_len, offset, shape, strides } = stored;
        let entry = archive
            .by_name(&format!("{root}data/{key}"))
            .map_err(|error| format!("it has no storage {key:?}, which `{name}` asks for ({error})"))?;
        let wanted = storage_len as u64 * kind.elt_size_in_bytes() as u64;
        if entry.compression() != CompressionMethod::Stored || entry.size() != wanted {
            return Err(format!(
                "its storage {key:?} has {} bytes, {}, and `{name}` asks for {wanted}, uncompressed",
                entry.size(),
                entry.compression()
            ));
        }
        let start = entry.data_start().ok_or_else(|| format!("its storage {key:?} has no place"))?;
        drop(entry);
        let place = Place { file: path.clone(), kind, shape, strides, storage: start, storage_len, offset };
        places.insert(name, place);
    }
    Ok(places)
}
