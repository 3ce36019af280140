//! The tensors of an adapter file: what PEFT's names mean, and in which shapes it keeps each.

use std::collections::BTreeMap;

use tch::Tensor;

use super::config::PeftConfig;
use crate::adapter::lora::{Lora, Part};
use crate::adapter::site::{Kernel, ModuleName};

/// What PEFT puts before the name of every module.
pub(super) const PREFIX: &str = "base_model.model.";

/// What has an adapter.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Adapted {
    /// A linear module.
    Module(ModuleName),
    /// An embedding table, by its module.
    Table(String),
}

/// A tensor's name without what wrappers put before it: PEFT, `torch.compile`, and models that run in parallel.
pub(super) fn own_name(name: &str) -> &str {
    let mut own = name.split_once(PREFIX).map_or(name, |(_, own)| own);
    while let Some(rest) = own.strip_prefix("_orig_mod.").or_else(|| own.strip_prefix("module.")) {
        own = rest;
    }
    own
}

/// What a tensor is, in any of PEFT's spellings: `MODULE.lora_A[.ADAPTER].weight`,
/// `MODULE.lora_embedding_A[.ADAPTER]` and `MODULE.lora_magnitude_vector[.ADAPTER][.weight]`.
pub(super) struct Key<'a> {
    pub module: &'a str,
    pub part: Part,
    pub of_table: bool,
}

impl<'a> Key<'a> {
    pub fn of(key: &'a str) -> Option<Self> {
        for (word, part, of_table) in [
            (".lora_A", Part::Down, false),
            (".lora_B", Part::Up, false),
            (".lora_embedding_A", Part::Down, true),
            (".lora_embedding_B", Part::Up, true),
            (".lora_magnitude_vector", Part::Magnitude, false),
        ] {
            let Some((module, end)) = key.rsplit_once(word) else { continue };
            let rest: Vec<&str> = end.split('.').collect(); // what comes before the first dot is of the word itself
            let fits = match (part, of_table, rest.as_slice()) {
                (Part::Magnitude, _, ["", ..]) => rest.len() <= 3,
                (_, true, ["", ..]) => rest.len() <= 2,
                (_, false, ["", .., "weight"]) => rest.len() <= 3,
                _ => false,
            };
            if fits {
                return Some(Self { module, part, of_table });
            }
        }
        None
    }
}

/// The base's own name of a tensor that PEFT wrapped: `MODULE.modules_to_save[.ADAPTER].NAME` and
/// `MODULE.base_layer.NAME`.
pub(super) fn plain_name(key: &str) -> String {
    let plain = key.replace(".base_layer.", ".");
    let Some((module, rest)) = plain.split_once(".modules_to_save.") else { return plain };
    // An adapter's name comes first, but for files that leave it out: there it is a parameter, or a layer's number.
    match rest.split_once('.') {
        Some((adapter, rest)) if adapter.parse::<usize>().is_err() => format!("{module}.{rest}"),
        _ => format!("{module}.{rest}"),
    }
}

/// The tensors of one adapter.
#[derive(Default)]
pub(super) struct Parts {
    pub down: Option<Tensor>,
    pub up: Option<Tensor>,
    pub magnitude: Option<Tensor>,
}

impl Parts {
    /// The trainable adapter, and the kernel where it is a convolution's; or what is wrong with it.
    pub fn assemble(self, module: &str, rules: &PeftConfig) -> Result<(Lora, Option<Kernel>), String> {
        let (Some(down), Some(up)) = (self.down, self.up) else {
            return Err("has only one of A and B, expected both".to_owned());
        };
        let wanted = rules.rank_of(module);
        let kernel = match (down.size().as_slice(), up.size().as_slice()) {
            ([_, _], [_, _]) => None,
            (&[_, channels, height, width], [_, _, 1, 1]) => Some([channels, height, width]),
            (down, up) => {
                return Err(format!(
                    "has A {down:?} and B {up:?}, expected matrices, or a convolution's kernels, B's of one pixel"
                ));
            }
        };
        let (rank, columns, outputs) = (down.size()[0], up.size()[1], up.size()[0]);
        if rank != wanted || columns != wanted {
            return Err(format!(
                "has A {:?} and B {:?}, and its config asks for rank {wanted}",
                down.size(),
                up.size()
            ));
        }
        let of_magnitude = kernel.map_or(vec![outputs], |_| vec![1, outputs, 1, 1]);
        match (&self.magnitude, rules.dora) {
            (Some(magnitude), true) if magnitude.size() == of_magnitude => {}
            (None, false) => {}
            (found, dora) => {
                let found = found.as_ref().map_or("none".to_owned(), |found| format!("{:?}", found.size()));
                let wanted = if dora { format!("{of_magnitude:?}") } else { "none".to_owned() };
                return Err(format!(
                    "has a `lora_magnitude_vector` of shape {found}, expected {wanted} with `use_dora` = {dora}"
                ));
            }
        }
        let magnitude = self.magnitude.map(|magnitude| magnitude.flatten(0, -1).set_requires_grad(true));
        let (down, up) = (down.flatten(1, -1), up.flatten(1, -1)); // [R, in], [out, R]
        let lora = Lora { magnitude, ..Lora::new(down, up, rules.scaling_of(module).scale(rank)) };
        Ok((lora, kernel))
    }
}

/// A tensor of this name `[…]` as files hold it: a convolution's A `[R, in]` is of its kernel's shape, its B
/// `[out, R]` a convolution of single pixels, and its magnitude `[out]` one a channel.
pub(super) fn as_written(name: &str, tensor: Tensor, kernels: &BTreeMap<ModuleName, Kernel>) -> Tensor {
    let Some(Key { module, part, .. }) = Key::of(name) else { return tensor };
    let Some([channels, height, width]) = kernels.get(&ModuleName::from(module)).copied() else {
        return tensor;
    };
    match part {
        Part::Down => tensor.reshape([-1, channels, height, width]),
        Part::Magnitude => tensor.reshape([1, -1, 1, 1]),
        _ => tensor.unsqueeze(-1).unsqueeze(-1),
    }
}
