//! The decision transformer: embeddings, blocks, and the heads that read actions, states and returns.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::block::Block;
use super::config::PolicyConfig;
use super::weights;
use crate::adapter::AdapterSet;
use crate::nn::{LayerNorm, Linear};
use crate::pass::{NoTap, Pass};
use crate::site::{Layer, Site};

/// What a policy reads: normalised states, actions as the policy knows them, scaled returns-to-go.
#[derive(Debug)]
pub struct Inputs {
    /// `[B, T, S]`.
    pub states: Tensor,
    /// `[B, T, A]`; one-hot where actions are discrete.
    pub actions: Tensor,
    /// `[B, T, 1]`.
    pub returns_to_go: Tensor,
    /// `[B, T]`, whole numbers below `max_ep_len`.
    pub timesteps: Tensor,
    /// `[B, T]`, true where a step is real and false where it pads.
    pub mask: Tensor,
}

impl Inputs {
    /// The mask of tokens, three a step: `[B, K]`.
    pub fn token_mask(&self) -> Tensor {
        self.mask.repeat_interleave_self_int(3, 1, None)
    }
}

/// What a policy says of every step.
#[derive(Debug)]
pub struct Predictions {
    /// `[B, T, A]`, read at the state token; after tanh where the policy has it.
    pub actions: Tensor,
    /// `[B, T, S]`, read at the action token.
    pub states: Tensor,
    /// `[B, T, 1]`, read at the action token.
    pub returns: Tensor,
}

/// A decision transformer. Its weights are frozen until [`DecisionTransformer::unfreeze`].
#[derive(Debug)]
pub struct DecisionTransformer {
    config: PolicyConfig,
    weights: BTreeMap<String, Tensor>,
    embed_return: Linear,
    embed_state: Linear,
    embed_action: Linear,
    embed_timestep: Tensor,
    embed_position: Tensor,
    embed_norm: LayerNorm,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
    predict_action: Linear,
    predict_state: Linear,
    predict_return: Linear,
}

impl DecisionTransformer {
    /// A new policy with weights from torch's generator.
    pub fn new(config: PolicyConfig, device: Device) -> Self {
        let weights = weights::draw(&config, device);
        Self::from_weights(config, weights)
    }

    /// The policy that `weights` describe; every name and shape is as `weights::layout` says.
    pub(super) fn from_weights(config: PolicyConfig, weights: BTreeMap<String, Tensor>) -> Self {
        let tensor = |name: &str| weights[name].shallow_clone();
        let linear = |name: &str| Linear {
            weight: tensor(&format!("{name}.weight")),
            bias: tensor(&format!("{name}.bias")),
        };
        let norm = |name: &str, epsilon| LayerNorm {
            weight: tensor(&format!("{name}.weight")),
            bias: tensor(&format!("{name}.bias")),
            epsilon,
        };
        Self {
            embed_return: linear("embed_return"),
            embed_state: linear("embed_state"),
            embed_action: linear("embed_action"),
            embed_timestep: tensor("embed_timestep.weight"),
            embed_position: tensor("encoder.wpe.weight"),
            embed_norm: norm("embed_ln", 1e-5),
            blocks: (0..config.n_layer as usize).map(|index| Block::new(index, &config, &weights)).collect(),
            final_norm: norm("encoder.ln_f", config.layer_norm_epsilon),
            predict_action: linear("predict_action.0"),
            predict_state: linear("predict_state"),
            predict_return: linear("predict_return"),
            weights,
            config,
        }
    }

    /// What `config.json` says.
    pub fn config(&self) -> &PolicyConfig {
        &self.config
    }

    /// `config.json` may change where it describes the use of the policy, not its shape.
    pub fn config_mut(&mut self) -> &mut PolicyConfig {
        &mut self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.embed_timestep.device()
    }

    /// Every tensor by its name in the file; shares storage with the policy.
    pub fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.weights
    }

    /// Makes every weight trainable, for pretraining and full fine-tuning.
    pub fn unfreeze(&mut self) {
        for tensor in self.weights.values_mut() {
            let _ = tensor.requires_grad_(true);
        }
    }

    /// The sites, in the order of the forward pass.
    pub fn sites(&self) -> Vec<Site> {
        let blocks = 0..self.blocks.len();
        blocks.flat_map(|block| Layer::ALL.map(|layer| Site { block, layer })).collect()
    }

    /// A site's input and output widths, if the policy has it.
    pub fn site_shape(&self, site: Site) -> Option<(i64, i64)> {
        self.weights.get(&format!("{site}.weight"))?.size2().ok()
    }

    /// A copy of the policy with `adapters` folded into its weights.
    pub fn merged(&self, adapters: &AdapterSet) -> Self {
        let mut weights: BTreeMap<String, Tensor> =
            self.weights.iter().map(|(name, tensor)| (name.clone(), tensor.detach().copy())).collect();
        for (site, lora) in &adapters.sites {
            let weight =
                weights.get_mut(&format!("{site}.weight")).expect("an adapter's site is in the policy");
            *weight += lora.delta().detach().tr(); // [in, out]
        }
        Self::from_weights(self.config.clone(), weights)
    }

    /// What the blocks make of the inputs: `[B, T, 3, D]`; return, state and action token in turn.
    pub fn encode(&self, pass: &mut Pass, inputs: &Inputs) -> Tensor {
        let (batch, steps) = inputs.timesteps.size2().expect("inputs are windows [B, T]");
        let (mut x, allowed) = self.embed(pass, inputs); // [B, K, D], [B, 1, K, K]
        for block in &self.blocks {
            x = block.forward(pass, &x, &allowed);
        }
        self.final_norm.forward(&x).view([batch, steps, 3, self.config.hidden_size])
    }

    /// `encode`'s state token of the last step alone, for acting: `[B, D]`.
    ///
    /// The last action token, which no state token sees, and all but one token of the last block are
    /// left out.
    pub fn encode_last_state(&self, inputs: &Inputs) -> Tensor {
        let no_adapters = AdapterSet::default();
        let pass = &mut Pass { adapters: &no_adapters, tap: &mut NoTap, train: false };
        let (x, allowed) = self.embed(pass, inputs);
        let tokens = x.size()[1] - 1;
        let mut x = x.narrow(1, 0, tokens); // [B, K − 1, D]
        let allowed = allowed.narrow(2, 0, tokens).narrow(3, 0, tokens);
        let (last, earlier) = self.blocks.split_last().expect("a policy has at least one block");
        for block in earlier {
            x = block.forward(pass, &x, &allowed);
        }
        self.final_norm.forward(&last.forward_last(pass, &x, &allowed)).squeeze_dim(1)
    }

    /// The tokens `[B, K, D]`, and where each may look `[B, 1, K, K]`.
    fn embed(&self, pass: &mut Pass, inputs: &Inputs) -> (Tensor, Tensor) {
        let (batch, steps) = inputs.timesteps.size2().expect("inputs are windows [B, T]");
        let (tokens, width) = (3 * steps, self.config.hidden_size);
        let time = Tensor::embedding(&self.embed_timestep, &inputs.timesteps, -1, false, false); // [B, T, D]
        let returns = self.embed_return.forward(&inputs.returns_to_go) + &time; // [B, T, D]
        let states = self.embed_state.forward(&inputs.states) + &time; // [B, T, D]
        let actions = self.embed_action.forward(&inputs.actions) + &time; // [B, T, D]
        let x = Tensor::stack(&[returns, states, actions], 2).view([batch, tokens, width]);
        let x = self.embed_norm.forward(&x) + self.embed_position.get(0); // [B, K, D]
        let causal = Tensor::ones([tokens, tokens], (Kind::Bool, self.device())).tril(0); // [K, K]
        let allowed = inputs.token_mask().view([batch, 1, 1, tokens]).logical_and(&causal);
        (x.dropout(self.config.embd_pdrop, pass.train), allowed)
    }

    /// The action head before tanh, on state tokens: `[…, D]` → `[…, A]`.
    pub fn action_head(&self, states: &Tensor) -> Tensor {
        self.predict_action.forward(states)
    }

    /// The whole forward pass, as transformers' `DecisionTransformerModel` computes it.
    pub fn forward(&self, pass: &mut Pass, inputs: &Inputs) -> Predictions {
        let encoded = self.encode(pass, inputs); // [B, T, 3, D]
        let actions = self.action_head(&encoded.select(2, 1));
        let after_action = encoded.select(2, 2); // [B, T, D]
        Predictions {
            actions: if self.config.action_tanh { actions.tanh() } else { actions },
            states: self.predict_state.forward(&after_action),
            returns: self.predict_return.forward(&after_action),
        }
    }
}
