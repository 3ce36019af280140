//! Layers made of a file's tensors by their names.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::model::core::layers::{LayerNorm, Linear, Module};

/// The tensors of a policy, every one of its layout.
#[derive(Clone, Copy)]
pub struct Named<'a>(pub &'a BTreeMap<String, Tensor>);

impl Named<'_> {
    /// One of them; shares storage.
    pub fn tensor(self, name: &str) -> Tensor {
        self.0[name].shallow_clone()
    }

    /// A linear layer `[out, in]`, or `[in, out]` where `fan_in_fan_out`; one without a bias has one of zeros.
    pub fn layer(self, name: &str, fan_in_fan_out: bool) -> Module {
        let weight = self.tensor(&format!("{name}.weight"));
        let outputs = weight.size()[usize::from(fan_in_fan_out)];
        let zeros = || Tensor::zeros([outputs], (Kind::Float, weight.device()));
        let bias = self.0.get(&format!("{name}.bias")).map_or_else(zeros, Tensor::shallow_clone);
        Module { name: name.into(), linear: Linear { weight, bias, fan_in_fan_out } }
    }

    /// A linear layer `[out, in]`.
    pub fn module(self, name: &str) -> Module {
        self.layer(name, false)
    }

    /// A layer norm.
    pub fn norm(self, name: &str, epsilon: f64) -> LayerNorm {
        let [weight, bias] = ["weight", "bias"].map(|part| self.tensor(&format!("{name}.{part}")));
        LayerNorm { weight, bias, epsilon }
    }
}
