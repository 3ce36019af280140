//! Named tensors in files: safetensors, PyTorch's zip archives, and either of them in shards.
//!
//! Opening a file reads names, shapes and places, and checks every size against the file's own; the
//! numbers are read tensor by tensor, in pieces, so that reading a policy needs little more memory than
//! the policy.

mod pickle;
mod place;
mod safetensors;
mod table;
mod torch_zip;

pub use pickle::{Stored, state_dict};
pub(crate) use safetensors::bytes;
pub use safetensors::write;
pub use table::{TensorFile, TensorFileError};
