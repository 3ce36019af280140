//! safetensors: where its tensors lie, and writing with the `format: pt` note that Python's readers want.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError};
use tch::{Device, Kind, Tensor};

use super::place::{Place, dense_strides};

/// The format's own bound on the length of its header.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a file.
pub(super) fn places(mut file: File, path: &Rc<PathBuf>) -> Result<BTreeMap<String, Place>, String> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut header_length = [0; 8];
    file.read_exact(&mut header_length).map_err(|_| "it is too short for safetensors".to_owned())?;
    let header_length = u64::from_le_bytes(header_length);
    if header_length > MAX_HEADER || header_length > length - 8 {
        return Err(format!(
            "its header should be {header_length} bytes long, and the file has {length}: it is torn, or no safetensors"
        ));
    }
    let mut header = vec![0; header_length as usize];
    file.read_exact(&mut header).map_err(|error| error.to_string())?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| format!("its header is broken: {error}"))?;
    let start = 8 + header_length;
    if start + metadata.data_len() as u64 != length {
        return Err(format!(
            "its header describes {} bytes of tensors, and {} are there",
            metadata.data_len(),
            length - start
        ));
    }
    let mut places = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let Some(kind) = kind_of(info.dtype) else {
            return Err(format!("it holds `{name}` as {}, which libtorch has no kind for", info.dtype));
        };
        let shape: Vec<i64> = info.shape.iter().map(|size| *size as i64).collect();
        let place = Place {
            file: path.clone(),
            kind,
            strides: dense_strides(&shape),
            storage: start + info.data_offsets.0 as u64,
            storage_len: shape.iter().product(),
            offset: 0,
            shape,
        };
        places.insert(name, place);
    }
    Ok(places)
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::BOOL => Kind::Bool,
        Dtype::U8 => Kind::Uint8,
        Dtype::I8 => Kind::Int8,
        Dtype::I16 => Kind::Int16,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        _ => return None,
    })
}

/// Writes tensors of kind f32, i64 or u8, of any shape and on any device.
pub fn write(tensors: &[(String, Tensor)], path: &Path) -> io::Result<()> {
    let mut packed = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let dtype = match tensor.kind() {
            Kind::Float => Dtype::F32,
            Kind::Int64 => Dtype::I64,
            Kind::Uint8 => Dtype::U8,
            kind => unreachable!("`{name}` is {kind:?}, and this program writes f32, i64 and u8 alone"),
        };
        let shape: Vec<usize> = tensor.size().into_iter().map(|size| size as usize).collect();
        packed.push((name.as_str(), dtype, shape, bytes(tensor)));
    }
    let mut views = Vec::with_capacity(packed.len());
    for (name, dtype, shape, bytes) in &packed {
        views.push((*name, TensorView::new(*dtype, shape.clone(), bytes).map_err(io::Error::other)?));
    }
    let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(note), path).map_err(|error| match error {
        SafeTensorError::IoError(error) => error,
        error => io::Error::other(error),
    })
}

/// A tensor's numbers of any shape `[…]`, as little-endian bytes.
pub(crate) fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}
