//! Every tensor of an `AdapterSet` as it is, for checkpoints; PEFT's files fold some of them together.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use super::lora::{Lora, Part};
use super::set::AdapterSet;
use super::site::ModuleName;

/// Names of tensors that training changes, and of the others, open with these.
const TRAINED: &str = "adapter.trained.";
const FROZEN: &str = "adapter.frozen.";

/// A saved state that is none of an adapter set.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum BadState {
    #[error("the adapters' state holds no tensor")]
    Empty,

    #[error("the adapters' state lacks `{0}`")]
    Missing(String),

    #[error("the adapters' state has `{name}` of shape {found:?}, expected {wanted:?}")]
    Shape { name: String, found: Vec<i64>, wanted: Vec<i64> },
}

impl AdapterSet {
    /// Every tensor by a name that says whether it is trained; shares storage with the set.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let prefix = |tensor: &Tensor| if tensor.requires_grad() { TRAINED } else { FROZEN }; // `[…]`
        self.tensors()
            .into_iter()
            .map(|(name, tensor)| (format!("{}{name}", prefix(&tensor)), tensor))
            .collect()
    }

    /// Takes back what [`AdapterSet::state`] gave, as copies on `device`; other names are passed over.
    /// Every adapter has the same `scale`.
    pub fn from_state<'a>(
        state: impl IntoIterator<Item = (&'a String, &'a Tensor)>,
        scale: f64,
        dropout: f64,
        device: Device,
    ) -> Result<Self, BadState> {
        let mut set = Self { dropout, ..Self::default() };
        let mut sites: BTreeMap<ModuleName, BTreeMap<Part, Tensor>> = BTreeMap::new();
        for (key, tensor) in state {
            let trained = key.strip_prefix(TRAINED);
            let Some(name) = trained.or_else(|| key.strip_prefix(FROZEN)) else { continue };
            let tensor = tensor.detach().to_device(device).copy().set_requires_grad(trained.is_some());
            match split(name) {
                None => drop(set.replaced.insert(name.to_owned(), tensor)),
                Some((module, part)) => {
                    sites.entry(ModuleName::from(module)).or_default().insert(part, tensor);
                }
            }
        }
        if sites.is_empty() && set.replaced.is_empty() {
            return Err(BadState::Empty);
        }
        for (site, parts) in sites {
            let lora = assemble(&site, parts, scale)?;
            set.sites.insert(site, lora);
        }
        Ok(set)
    }
}

/// The module and the part that a name says, or nothing if it is a replaced tensor's.
fn split(name: &str) -> Option<(&str, Part)> {
    Part::NAMES.into_iter().find_map(|(part, end)| Some((name.strip_suffix(end)?.strip_suffix('.')?, part)))
}

fn assemble(site: &ModuleName, mut parts: BTreeMap<Part, Tensor>, scale: f64) -> Result<Lora, BadState> {
    let name = |part: Part| format!("{site}.{}", part.name());
    let lacks = |part: Part| BadState::Missing(name(part));
    let sizes = |part: Part| {
        let tensor = parts.get(&part).ok_or_else(|| lacks(part))?;
        let wrong = |_| BadState::Shape { name: name(part), found: tensor.size(), wanted: vec![-1, -1] };
        tensor.size2().map_err(wrong)
    };
    let ((rank, input), (output, _)) = (sizes(Part::Down)?, sizes(Part::Up)?);
    for (part, tensor) in &parts {
        let wanted = match part {
            Part::Down | Part::FirstDown => vec![rank, input],
            Part::Up | Part::FirstUp => vec![output, rank],
            Part::Magnitude => vec![output],
            Part::SingularValues => vec![rank],
        };
        if tensor.size() != wanted {
            return Err(BadState::Shape { name: name(*part), found: tensor.size(), wanted });
        }
    }
    let mut take = |part: Part| parts.remove(&part);
    let (Some(down), Some(up)) = (take(Part::Down), take(Part::Up)) else { return Err(lacks(Part::Down)) };
    let frozen_init = match (take(Part::FirstDown), take(Part::FirstUp)) {
        (None, None) => None,
        (Some(down), Some(up)) => Some((down, up)),
        (None, _) => return Err(lacks(Part::FirstDown)),
        (_, None) => return Err(lacks(Part::FirstUp)),
    };
    Ok(Lora {
        down,
        up,
        scale,
        magnitude: take(Part::Magnitude),
        singular_values: take(Part::SingularValues),
        frozen_init,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tch::Kind;

    use super::*;

    fn random(shape: [i64; 2]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    /// One adapter with everything that an adapter can have, and a replaced head.
    fn full() -> AdapterSet {
        let mut lora = Lora::new(random([3, 5]), random([4, 3]), 0.5).subtract_init();
        lora.up = random([4, 3]).set_requires_grad(true);
        lora.down = lora.down.detach().set_requires_grad(false);
        lora.singular_values = Some(random([3, 1]).squeeze_dim(-1).set_requires_grad(true));
        lora.magnitude = Some(random([4, 1]).squeeze_dim(-1).set_requires_grad(true));
        let mut set = AdapterSet { dropout: 0.1, ..AdapterSet::default() };
        set.sites.insert("encoder.h.0.mlp.c_fc".into(), lora);
        set.replaced.insert("predict_action.0.weight".to_owned(), random([1, 5]).set_requires_grad(true));
        set
    }

    fn map(state: Vec<(String, Tensor)>) -> HashMap<String, Tensor> {
        state.into_iter().collect()
    }

    #[test]
    fn a_state_gives_the_same_set_and_the_same_trained_tensors() {
        let set = full();
        let mut state = map(set.state());
        state.insert("optimiser.steps".to_owned(), Tensor::from(1));
        let again = AdapterSet::from_state(&state, 0.5, 0.1, Device::Cpu).unwrap();
        assert_eq!(again.state(), set.state());
        let names = |set: &AdapterSet| set.parameters().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&again), names(&set));
        assert!(!names(&set).iter().any(|name| name.contains("lora_A")), "a frozen A is no parameter");
        assert_eq!(again.sites.values().next().unwrap().delta(), set.sites.values().next().unwrap().delta());
    }

    #[test]
    fn what_a_state_lacks_is_named() {
        for part in ["lora_A.weight", "lora_B.weight", "start_A", "start_B"] {
            let mut state = map(full().state());
            state.retain(|name, _| !name.ends_with(part));
            let error = AdapterSet::from_state(&state, 0.5, 0.1, Device::Cpu).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let error = AdapterSet::from_state(&HashMap::new(), 0.5, 0.1, Device::Cpu).unwrap_err();
        assert!(matches!(error, BadState::Empty));
    }

    #[test]
    fn a_tensor_of_another_shape_is_named() {
        let mut state = map(full().state());
        let name = "adapter.trained.encoder.h.0.mlp.c_fc.lora_E";
        state.insert(name.to_owned(), Tensor::zeros([2], (Kind::Float, Device::Cpu)));
        let error = AdapterSet::from_state(&state, 0.5, 0.1, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("lora_E") && error.contains("[2]") && error.contains("[3]"), "{error}");
    }
}
