//! What a family says of its policies.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tch::Tensor;

use crate::adapter::site::Site;
use crate::model::core::bad_field::BadField;
use crate::model::core::config::PolicyConfig;
use crate::model::core::spaces::Spaces;
use crate::model::core::weights::TensorSpec;
use crate::model::encoders::Encoder;
use crate::model::heads::Heads;
use crate::model::trunk::Trunk;

/// The shapes of a file's tensors, by their names.
pub type Shapes<'a> = dyn Fn(&str) -> Option<&'a [i64]> + 'a;

/// Puts into `config.json`'s table what the tensors' shapes, the family's own keys and its custom say.
pub type Complete = fn(&mut Map<String, Value>, &Shapes);

/// The config for an environment's observations and actions.
pub type Fit = fn(PolicyConfig, &Spaces) -> Result<PolicyConfig, BadField>;

/// What a family says of its policies: how its files name things, and which parts a policy is made of.
#[derive(Debug)]
pub struct Family {
    /// The values of `model_type` in `config.json` that name it; the first is that of its reference.
    pub model_types: &'static [&'static str],
    /// Other names of keys in `config.json`, with those that [`PolicyConfig`] knows.
    pub aliases: &'static [(&'static str, &'static str)],
    /// There for a family whose published `config.json`, if there is one, says things otherwise than ours.
    pub complete: Option<Complete>,
    /// Whether its policies are published without `config.json`.
    pub is_whole_without_config: bool,
    /// The file beside `config.json` that tells of its tasks, if a policy has several.
    pub tasks_file: Option<&'static str>,
    /// There for a family whose policies serve any environment: the config for one's observations and actions.
    pub fit: Option<Fit>,
    /// Refuses configs that the family has no policy for.
    pub check: fn(&PolicyConfig) -> Result<(), BadField>,
    /// Every tensor of its files.
    pub layout: fn(&PolicyConfig) -> Vec<TensorSpec>,
    /// Other names that a tensor may have, with that by which it is known.
    pub tensor_aliases: &'static [(&'static str, &'static str)],
    /// A tensor of every file of the family, by which a prefix of all names is known.
    pub known_tensor: &'static str,
    /// Whether a tensor of the file is a buffer that no policy reads.
    pub is_buffer: fn(&str) -> bool,
    /// Whether a tensor is of a part that not every policy has, which is kept where the file holds it.
    pub is_optional: fn(&str) -> bool,
    /// Whether a tensor of the file is named like a part of such a policy, so that it must not be left out.
    pub is_own: fn(&str) -> bool,
    /// Every linear module and convolution, in the order of the forward pass.
    pub sites: fn(&PolicyConfig) -> Vec<Site>,
    /// The modules that are embedding tables.
    pub embedding_tables: &'static [&'static str],
    /// The policy's parts, made of tensors by name; every one of the layout is there.
    pub build: fn(&PolicyConfig, &BTreeMap<String, Tensor>) -> Parts,
}

/// The parts of a policy.
#[derive(Debug)]
pub struct Parts {
    /// Embeds what the policy reads.
    pub encoder: Encoder,
    /// Its blocks.
    pub trunk: Trunk,
    /// What is read of their outputs.
    pub heads: Heads,
}
