//! The decision transformer: embeddings, blocks, and the heads that read actions, states and returns.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::bins;
use super::block::{Block, KeysAndValues};
use super::cache::Growth;
use super::config::{ActionKind, PolicyConfig};
use super::policy;
use super::weights;
use crate::adapter::{AdapterSet, row_norms};
use crate::nn::{LayerNorm, Linear};
use crate::pass::{NoTap, Pass};
use crate::site::{Head, Layer, Site, Token};

/// What a policy reads: normalised states, actions as the policy knows them, scaled returns-to-go.
#[derive(Debug)]
pub struct Inputs {
    /// `[B, T, S]`.
    pub states: Tensor,
    /// `[B, T, A]`; one-hot where actions are discrete.
    pub actions: Tensor,
    /// `[B, T, 1]`, scaled as returns are; there where the policy reads it.
    pub rewards: Option<Tensor>,
    /// `[B, T, 1]`.
    pub returns_to_go: Tensor,
    /// `[B, T]`, whole numbers below `max_ep_len`.
    pub timesteps: Tensor,
    /// `[B, T]`, true where a step is real and false where it pads.
    pub mask: Tensor,
}

impl Inputs {
    /// Windows `start..start + count`; shares storage with these.
    pub fn narrow(&self, start: i64, count: i64) -> Self {
        let part = |x: &Tensor| x.narrow(0, start, count); // [B, …] → [count, …]
        Self {
            states: part(&self.states),
            actions: part(&self.actions),
            rewards: self.rewards.as_ref().map(part),
            returns_to_go: part(&self.returns_to_go),
            timesteps: part(&self.timesteps),
            mask: part(&self.mask),
        }
    }
}

/// What a policy says of every step.
#[derive(Debug)]
pub struct Predictions {
    /// `[B, T, A]`, read before the action token; after tanh where the policy has it, the likeliest
    /// number of each dimension where actions are binned.
    pub actions: Tensor,
    /// `[B, T, A, bins]` where actions are binned.
    pub action_logits: Option<Tensor>,
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
    embeddings: Vec<(Token, Linear)>,
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
        let linear = |site: Site| Linear {
            weight: tensor(&format!("{site}.weight")),
            bias: tensor(&format!("{site}.bias")),
            fan_in_fan_out: site.fan_in_fan_out(),
        };
        let norm = |name: &str, epsilon| LayerNorm {
            weight: tensor(&format!("{name}.weight")),
            bias: tensor(&format!("{name}.bias")),
            epsilon,
        };
        Self {
            embeddings: config
                .token_order
                .iter()
                .map(|token| (*token, linear(Site::Embed(*token))))
                .collect(),
            embed_timestep: tensor("embed_timestep.weight"),
            embed_position: tensor("encoder.wpe.weight"),
            embed_norm: norm("embed_ln", 1e-5),
            blocks: (0..config.n_layer as usize).map(|index| Block::new(index, &config, &weights)).collect(),
            final_norm: norm("encoder.ln_f", config.layer_norm_epsilon),
            predict_action: linear(Site::Predict(Head::Action)),
            predict_state: linear(Site::Predict(Head::State)),
            predict_return: linear(Site::Predict(Head::Return)),
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

    /// The same policy for another thread, to act by; the weights are shared.
    pub fn share(&self) -> Self {
        let weights = self.weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        Self::from_weights(self.config.clone(), weights.collect())
    }

    /// The sites that get adapters: every map of the blocks, in the order of the forward pass.
    pub fn sites(&self) -> Vec<Site> {
        let blocks = 0..self.blocks.len();
        blocks.flat_map(|block| Layer::ALL.map(|layer| Site::Block { block, layer })).collect()
    }

    /// A site's input and output widths, if the policy has it.
    pub fn site_shape(&self, site: Site) -> Option<(i64, i64)> {
        let (first, second) = self.weights.get(&format!("{site}.weight"))?.size2().ok()?;
        Some(if site.fan_in_fan_out() { (first, second) } else { (second, first) })
    }

    /// Gives every adapter DoRA's magnitude, which starts as the norms of the map's own rows.
    pub fn start_dora(&self, adapters: &mut AdapterSet) {
        for (site, lora) in &mut adapters.sites {
            let norms = tch::no_grad(|| row_norms(&self.matrix(*site))); // [out]
            lora.magnitude = Some(norms.set_requires_grad(true));
        }
    }

    /// A site's weight `[out, in]`; shares storage with the policy.
    pub fn matrix(&self, site: Site) -> Tensor {
        let weight = &self.weights[&format!("{site}.weight")];
        if site.fan_in_fan_out() { weight.tr() } else { weight.shallow_clone() }
    }

    /// The policy with the tensors that `adapters` bring in place of its own.
    pub fn with_replaced(self, adapters: &AdapterSet) -> Self {
        let mut weights = self.weights;
        for (name, tensor) in &adapters.replaced {
            weights.insert(name.clone(), tensor.shallow_clone());
        }
        fold_tables(&mut weights, adapters);
        Self::from_weights(self.config, weights)
    }

    /// A copy of the policy with `adapters` folded into its weights.
    pub fn merged(&self, adapters: &AdapterSet) -> Self {
        let mut weights: BTreeMap<String, Tensor> = BTreeMap::new();
        for (name, tensor) in &self.weights {
            let tensor = adapters.replaced.get(name).unwrap_or(tensor);
            weights.insert(name.clone(), tensor.detach().copy());
        }
        for (site, lora) in &adapters.sites {
            let name = format!("{site}.weight");
            let merged = tch::no_grad(|| lora.merged(&self.matrix(*site))); // [out, in]
            let merged = if site.fan_in_fan_out() { merged.tr().contiguous() } else { merged };
            weights.insert(name, merged);
        }
        fold_tables(&mut weights, adapters);
        Self::from_weights(self.config.clone(), weights)
    }

    /// What the blocks make of every token: `[B, K, D]`.
    pub fn encode(&self, pass: &mut Pass, inputs: &Inputs) -> Tensor {
        let (x, bias) = self.embed(pass, inputs); // [B, K, D], [B, 1, K, K]
        self.run(pass, x, &bias, None)
    }

    /// Shows the pass's tap what every map of the blocks reads, and computes nothing that none of them does.
    pub fn show(&self, pass: &mut Pass, inputs: &Inputs) {
        let (mut x, bias) = self.embed(pass, inputs); // [B, K, D], [B, 1, K, K]
        let (last, earlier) = self.blocks.split_last().expect("a policy has at least one block");
        for block in earlier {
            x = block.forward(pass, &x, &bias, None);
        }
        last.show(pass, &x, &bias);
    }

    /// What the blocks make of the tokens that actions are read at: `[B, T, D]`.
    pub fn encode_for_actions(&self, pass: &mut Pass, inputs: &Inputs) -> Tensor {
        let (x, bias) = self.embed(pass, inputs); // [B, K, D], [B, 1, K, K]
        let ends = Tensor::arange_start_step(
            self.action_place() - 1,
            x.size()[1],
            self.per_step(),
            (Kind::Int64, x.device()),
        ); // [T]
        self.run(pass, x, &bias, Some(&ends))
    }

    /// The same for the last step alone, for acting: `[B, D]`.
    ///
    /// The last step's action, which nobody has chosen yet, and what follows it are left out.
    pub fn encode_for_acting(&self, inputs: &Inputs) -> Tensor {
        let no_adapters = AdapterSet::default();
        let pass = &mut Pass { adapters: &no_adapters, tap: &mut NoTap, train: false, mixed: false };
        let (x, bias) = self.embed(pass, inputs);
        let left_out = self.per_step() - self.action_place();
        let tokens = x.size()[1] - left_out;
        let x = x.narrow(1, 0, tokens);
        let bias = bias.narrow(2, 0, tokens).narrow(3, 0, tokens);
        let last = Tensor::from_slice(&[tokens - 1]).to_device(x.device());
        self.run(pass, x, &bias, Some(&last)).squeeze_dim(1)
    }

    /// What the blocks make of the last of some new tokens, which also look at what `growth` remembers of
    /// their contexts: `x` `[R, n, D]` → `[R, D]`.
    pub(super) fn advance(&self, x: Tensor, growth: &mut Growth) -> Tensor {
        let no_adapters = AdapterSet::default();
        let pass = &mut Pass { adapters: &no_adapters, tap: &mut NoTap, train: false, mixed: false };
        let (last, earlier) = self.blocks.split_last().expect("a policy has at least one block");
        let mut x = x;
        for block in earlier {
            x = block.advance(pass, &x, growth, false); // [R, n, D]
        }
        self.final_norm.forward(&last.advance(pass, &x, growth, true)).squeeze_dim(1)
    }

    /// The blocks: `x` `[B, K, D]`, `bias` `[B, 1, K, K]` → `[B, Q, D]` for the `wanted` tokens
    /// `[Q]`, of which the last block computes no others.
    fn run(&self, pass: &mut Pass, mut x: Tensor, bias: &Tensor, wanted: Option<&Tensor>) -> Tensor {
        let (last, earlier) = self.blocks.split_last().expect("a policy has at least one block");
        for block in earlier {
            x = block.forward(pass, &x, bias, None);
        }
        self.final_norm.forward(&last.forward(pass, &x, bias, wanted))
    }

    /// The tokens `[B, K, D]`, and what is added to their attention scores `[B, 1, K, K]`.
    fn embed(&self, pass: &mut Pass, inputs: &Inputs) -> (Tensor, Tensor) {
        let (batch, steps) = inputs.timesteps.size2().expect("inputs are windows [B, T]");
        let tokens = self.per_step() * steps;
        let x = self.embedded(pass, inputs); // [B, K, D]
        let mask = self.token_mask(inputs); // [B, K]
        // Counted from the first real token, so that nothing depends on how long other windows are.
        let positions = (mask.cumsum(1, Kind::Int64) - 1).clamp_min(0); // [B, K]
        let x = self.place(&x, &positions);
        let causal = Tensor::ones([tokens, tokens], (Kind::Bool, self.device())).tril(0); // [K, K]
        let hidden = mask.view([batch, 1, 1, tokens]).logical_and(&causal).logical_not();
        let bias = Tensor::zeros([batch, 1, tokens, tokens], (Kind::Float, self.device()))
            .masked_fill_(&hidden, f64::NEG_INFINITY);
        (pass.dropped(&x, self.config.embd_pdrop), bias)
    }

    /// Every token of every step with its timestep, not yet placed: `[B, K, D]`.
    pub(super) fn embedded(&self, pass: &mut Pass, inputs: &Inputs) -> Tensor {
        let read: Vec<Tensor> =
            (0..self.embeddings.len()).map(|place| self.read(pass, inputs, place)).collect();
        let time = self.time(&inputs.timesteps).unsqueeze(2); // [B, T, 1, D]
        (Tensor::stack(&read, 2) + time).flatten(1, 2)
    }

    /// The same, placed where their places do not count: `[B, K, D]`.
    pub(super) fn tokens(&self, pass: &mut Pass, inputs: &Inputs) -> Tensor {
        self.place(&self.embedded(pass, inputs), &inputs.timesteps)
    }

    /// The block that reads the tokens.
    pub(super) fn first_block(&self) -> &Block {
        self.blocks.first().expect("a policy has at least one block")
    }

    /// The block that heads read.
    pub(super) fn last_block(&self) -> &Block {
        self.blocks.last().expect("a policy has at least one block")
    }

    /// What the blocks make of one token of each window: tokens `x` `[R, K, D]` and what the first block's attention
    /// reads of them, `joint` `[R, K, 3·D]`, with `bias` `[R or 1, 1, K, K]` on attention scores → `[R, D]` for the
    /// tokens `wanted` `[R]` of all `[R·K]`.
    pub(super) fn encode_slid(
        &self,
        pass: &mut Pass,
        x: &Tensor,
        joint: &Tensor,
        bias: &Tensor,
        wanted: &Tensor,
        last: &KeysAndValues,
    ) -> Tensor {
        let (rows, tokens, width) = x.size3().expect("windows are [R, K, D]");
        let picked = |x: &Tensor| x.reshape([rows * tokens, width]).index_select(0, wanted).unsqueeze(1); // [R, 1, D]
        let bias_of_wanted = || {
            let bias = bias.expand([rows, 1, tokens, tokens], false).reshape([rows * tokens, tokens]);
            bias.index_select(0, wanted).view([rows, 1, 1, tokens])
        };
        let blocks = self.blocks.len();
        let x = if blocks == 1 {
            let x = self.blocks[0].of_joint(pass, x, joint, bias); // [R, K, D]
            picked(&x)
        } else {
            let mut x = self.blocks[0].of_joint(pass, x, joint, bias); // [R, K, D]
            for block in &self.blocks[1..blocks - 1] {
                x = block.forward(pass, &x, bias, None);
            }
            self.last_block().one_query(pass, last, &x, &picked(&x), &bias_of_wanted())
        };
        self.final_norm.forward(&x).squeeze_dim(1)
    }

    /// What stands at one place of every step, embedded: `[B, T, D]`.
    pub(super) fn read(&self, pass: &mut Pass, inputs: &Inputs, place: usize) -> Tensor {
        let (token, linear) = &self.embeddings[place];
        let x = match token {
            Token::Return => &inputs.returns_to_go,
            Token::State => &inputs.states,
            Token::Action => &inputs.actions,
            Token::Reward => inputs.rewards.as_ref().expect("a policy that reads rewards is given them"),
        };
        pass.project(Site::Embed(*token), linear, x)
    }

    /// The embedding of timesteps: `[B, T]` → `[B, T, D]`.
    pub(super) fn time(&self, timesteps: &Tensor) -> Tensor {
        Tensor::embedding(&self.embed_timestep, timesteps, -1, false, false)
    }

    /// Normalises tokens, and adds the embedding of their places among the tokens that they are read with:
    /// `x` `[B, K, D]`, `positions` `[B, K]` → `[B, K, D]`.
    pub(super) fn place(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        let x = self.embed_norm.forward(x);
        match self.config.global_positions {
            true => x + Tensor::embedding(&self.embed_position, positions, -1, false, false),
            false => x + self.embed_position.narrow(0, 0, 1),
        }
    }

    /// Tokens of a step.
    pub(super) fn per_step(&self) -> i64 {
        self.embeddings.len() as i64
    }

    /// The mask of tokens: `[B, K]`.
    pub fn token_mask(&self, inputs: &Inputs) -> Tensor {
        inputs.mask.repeat_interleave_self_int(self.embeddings.len() as i64, 1, None)
    }

    /// The action head before tanh: `[…, D]` → `[…, A]`, or `[…, A · bins]` where actions are binned.
    pub fn action_head(&self, pass: &mut Pass, x: &Tensor) -> Tensor {
        pass.project(Site::Predict(Head::Action), &self.predict_action, x)
    }

    /// The mean action of every step, which has a gradient: `[B, T, A]`, probabilities where discrete.
    pub fn mean_actions(&self, pass: &mut Pass, inputs: &Inputs) -> Tensor {
        let encoded = self.encode_for_actions(pass, inputs); // [B, T, D]
        policy::mean(&self.config, &self.action_head(pass, &encoded))
    }

    /// The whole forward pass, as transformers' `DecisionTransformerModel` computes it.
    pub fn forward(&self, pass: &mut Pass, inputs: &Inputs) -> Predictions {
        let (batch, steps) = inputs.timesteps.size2().expect("inputs are windows [B, T]");
        let (x, bias) = self.embed(pass, inputs); // [B, K, D], [B, 1, K, K]
        // Heads read the action token and the one before it, so the last block leaves out the others.
        let steps_first = Tensor::arange(steps, (Kind::Int64, x.device())) * self.per_step(); // [T]
        let place = self.action_place();
        let wanted = Tensor::stack(&[&steps_first + (place - 1), steps_first + place], 1).flatten(0, 1); // [2·T]
        let read = self.run(pass, x, &bias, Some(&wanted)).view([batch, steps, 2, -1]);
        let (before, after) = (read.select(2, 0), read.select(2, 1)); // [B, T, D]

        let head = self.action_head(pass, &before);
        let (actions, action_logits) = match self.config.action_kind {
            ActionKind::Binned => {
                let logits = bins::split(&head, self.config.act_dim); // [B, T, A, bins]
                (bins::likeliest(&logits), Some(logits))
            }
            _ if self.config.action_tanh => (head.tanh(), None),
            _ => (head, None),
        };
        Predictions {
            actions,
            action_logits,
            states: pass.project(Site::Predict(Head::State), &self.predict_state, &after),
            returns: pass.project(Site::Predict(Head::Return), &self.predict_return, &after),
        }
    }

    /// The action token's place in a step; never 0.
    pub(super) fn action_place(&self) -> i64 {
        self.config.place(Token::Action).expect("a checked config has an action token")
    }
}

/// Folds the adapters of embedding tables in: the table `[N, D]` is the map of one-hot numbers as GPT-2 keeps maps.
fn fold_tables(weights: &mut BTreeMap<String, Tensor>, adapters: &AdapterSet) {
    for (module, lora) in &adapters.tables {
        let table = weights.get_mut(&format!("{module}.weight")).expect("the adapters were checked");
        *table = tch::no_grad(|| lora.merged(&table.tr())).tr().contiguous(); // [N, D]
    }
}
