//! What the tests share: fixtures, and comparisons of tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eva_rl_agents::adapter::site::Site;
use eva_rl_agents::adapter::{AdapterFolder, AdapterSet};
use eva_rl_agents::model::{ForwardContext, Inputs, Predictions, TransformerPolicy};
use eva_rl_agents::tensor::file::TensorFile;
use tch::{Device, Kind, Tensor};

/// A fixture's path.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Every tensor of a file.
pub fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    TensorFile::open(path).unwrap().read_all().unwrap()
}

/// A policy's inputs by the names that transformers gives them.
pub fn inputs(tensors: &BTreeMap<String, Tensor>) -> Inputs {
    Inputs {
        states: tensors["states"].shallow_clone(),
        words: None,
        images: None,
        previous: None,
        actions: tensors["actions"].shallow_clone(),
        rewards: tensors.get("rewards").map(Tensor::shallow_clone),
        returns_to_go: tensors["returns_to_go"].shallow_clone(),
        timesteps: tensors["timesteps"].shallow_clone(),
        mask: tensors["attention_mask"].to_kind(Kind::Bool),
    }
}

/// The predictions of a policy with adapters.
pub fn forward(policy: &TransformerPolicy, adapters: &AdapterSet, inputs: &Inputs) -> Predictions {
    tch::no_grad(|| policy.forward(&mut ForwardContext::with_adapters(adapters), inputs))
}

/// An adapter folder of this policy.
pub fn read_adapter(folder: &Path, policy: &TransformerPolicy) -> (AdapterFolder, AdapterSet) {
    let (facts, adapters) = AdapterFolder::read(folder, Device::Cpu).unwrap();
    policy.check_adapters(&facts, &adapters, folder).unwrap();
    (facts, adapters)
}

/// The sites that get adapters where nobody names others.
pub fn sites(policy: &TransformerPolicy) -> Vec<Site> {
    policy.sites().cloned().collect()
}
