//! The adapters of one policy.

use std::collections::BTreeMap;

use tch::Tensor;

use super::lora::Lora;
use super::site::ModuleName;

/// The adapters of a policy: at most one per module.
#[derive(Debug, Default)]
pub struct AdapterSet {
    /// The modules that have an adapter.
    pub sites: BTreeMap<ModuleName, Lora>,
    /// Probability that an adapter's input is zeroed in training.
    pub dropout: f64,
    /// Adapters of embedding tables `[N, D]`, which are maps from N one-hot numbers to D, by module. They are folded
    /// in where a policy takes the set up, and are not trained here.
    pub tables: BTreeMap<String, Lora>,
    /// Tensors that stand in for the policy's own of the same name: PEFT's `modules_to_save` and biases.
    pub replaced: BTreeMap<String, Tensor>,
}

impl AdapterSet {
    /// The adapter of `module`, if it has one.
    pub fn get(&self, module: &ModuleName) -> Option<&Lora> {
        self.sites.get(module)
    }

    /// Every tensor by its name; shares storage with the set.
    pub(super) fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::with_capacity(2 * self.sites.len());
        for (site, lora) in &self.sites {
            let parts = lora.parts().into_iter();
            tensors.extend(parts.map(|(part, tensor)| (format!("{site}.{}", part.name()), tensor)));
        }
        for (table, lora) in &self.tables {
            for (part, tensor) in lora.parts() {
                let name = part.table_name().expect("an embedding table's adapter is plain");
                tensors.push((format!("{table}.{name}"), tensor));
            }
        }
        tensors.extend(self.replaced.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())));
        tensors
    }

    /// What training changes, by PEFT's names; shares storage with the set.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.tensors().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect()
    }

    /// The same adapters as A and B alone on the untouched base, as files hold them. A site whose gains
    /// are all zero is absent, unless all are.
    pub fn to_peft_lora(&self) -> Self {
        let acting = self.sites.values().any(Lora::is_active);
        let sites = self.sites.iter().filter(|(_, lora)| lora.is_active() || !acting);
        Self {
            sites: sites.map(|(site, lora)| (site.clone(), lora.to_peft_lora())).collect(),
            dropout: self.dropout,
            tables: self.tables.iter().map(|(name, lora)| (name.clone(), lora.to_peft_lora())).collect(),
            replaced: self
                .replaced
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                .collect(),
        }
    }

    /// Numbers that training changes.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, tensor)| tensor.numel()).sum()
    }
}
