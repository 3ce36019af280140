//! Files of policies as other programs leave them: Hugging Face's folders, state dicts, TorchScript modules.

mod error;
mod folder;
mod policy;
mod releases;
mod statistics;
mod torch_script;

pub use error::PolicyError;
pub use folder::{Given, read, read_file, write};
pub use policy::Policy;
pub use torch_script::{ScriptError, ScriptPredictions, TorchScript};
