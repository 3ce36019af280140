//! Named tensors in one safetensors file, with the `format: pt` note that Python's readers want.

use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensorError, tensor::TensorView};
use tch::{Device, Kind, TchError, Tensor};

/// Reads every tensor of a file, on the CPU.
pub fn read(path: &Path) -> Result<Vec<(String, Tensor)>, TchError> {
    Tensor::read_safetensors(path)
}

/// Writes tensors of kind f32 or i64, of any shape and on any device.
pub fn write(tensors: &[(String, Tensor)], path: &Path) -> Result<(), SafeTensorError> {
    let mut packed = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let dtype = match tensor.kind() {
            Kind::Float => Dtype::F32,
            Kind::Int64 => Dtype::I64,
            kind => unreachable!("`{name}` is {kind:?}, and this program writes f32 and i64 alone"),
        };
        let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        let shape: Vec<usize> = tensor.size().into_iter().map(|size| size as usize).collect();
        packed.push((name.as_str(), dtype, shape, bytes));
    }
    let mut views = Vec::with_capacity(packed.len());
    for (name, dtype, shape, bytes) in &packed {
        views.push((*name, TensorView::new(*dtype, shape.clone(), bytes)?));
    }
    let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(note), path)
}
