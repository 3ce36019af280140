//! A policy made of shared parts, as its family puts them together: step encoder, transformer trunk, heads.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::adapter::site::{Kernel, ModuleName, Site, UnknownModule};
use crate::adapter::{AdapterError, AdapterFolder, AdapterSet, fingerprint, row_norms};
use crate::model::core::bad_field::BadField;
use crate::model::core::bins::{self, Bins};
use crate::model::core::config::{ActionKind, PolicyConfig};
use crate::model::core::forward::ForwardContext;
use crate::model::core::inputs::{Inputs, Predictions};
use crate::model::core::spaces::Spaces;
use crate::model::core::tokens::Token;
use crate::model::core::weights::{self, TensorSpec};
use crate::model::encoders::Encoder;
use crate::model::families::{self, Family};
use crate::model::heads::{self, Heads};
use crate::model::trunk::Trunk;

/// A policy of any family. Its weights are frozen until [`TransformerPolicy::unfreeze`].
#[derive(Debug)]
pub struct TransformerPolicy {
    config: PolicyConfig,
    weights: BTreeMap<String, Tensor>,
    family: &'static Family,
    sites: Vec<Site>,
    pub(super) encoder: Box<Encoder>,
    pub(super) trunk: Trunk,
    heads: Box<Heads>,
}

impl TransformerPolicy {
    /// A new policy with weights from torch's generator.
    pub fn new(config: PolicyConfig, device: Device) -> Self {
        let weights = weights::draw(&(families::of(&config).layout)(&config), device);
        Self::from_weights(config, weights)
    }

    /// The policy that `weights` describe; every name and shape is as its family's layout says.
    pub(in crate::model) fn from_weights(config: PolicyConfig, weights: BTreeMap<String, Tensor>) -> Self {
        let family = families::of(&config);
        let parts = (family.build)(&config, &weights);
        Self {
            family,
            sites: (family.sites)(&config),
            encoder: Box::new(parts.encoder),
            trunk: parts.trunk,
            heads: Box::new(parts.heads),
            weights,
            config,
        }
    }

    /// The policy for an environment of these spaces, where its family serves any; as it is where not.
    pub fn fitted(self, spaces: &Spaces) -> Result<Self, BadField> {
        let Some(fit) = self.family.fit else { return Ok(self) };
        let config = fit(self.config, spaces)?;
        for TensorSpec { name, shape, .. } in (self.family.layout)(&config) {
            let found = self.weights.get(&name).map(Tensor::size);
            if found.as_ref() != Some(&shape) {
                let found = found.map_or("absent".to_owned(), |found| format!("of shape {found:?}"));
                let wanted = format!("{shape:?}, which these observations and actions ask for");
                return Err(BadField { key: name.into(), found, wanted });
            }
        }
        Ok(Self::from_weights(config, self.weights))
    }

    /// Whether it can read images: as it is, or where an environment shows such.
    pub fn reads_images(&self) -> bool {
        let layers = |name: &String| name.starts_with("image_encoder.");
        self.config.image_shape.is_some() || (self.family.fit.is_some() && self.weights.keys().any(layers))
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
        self.trunk.device()
    }

    /// Every tensor by its name in the file; shares storage with the policy.
    pub fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.weights
    }

    /// A checksum of the weights that its files have, by which adapters know their policy.
    pub fn fingerprint(&self) -> String {
        let new = &self.config.new_tensors;
        fingerprint(self.weights.iter().filter(|(name, _)| !new.contains(name)))
    }

    /// Begins an action head that no file has with actions `[A]` at their mean over data.
    pub fn begin_actions_at(&mut self, mean: &[f32]) {
        let bias = &mut self.heads.action.linear.bias; // [A]
        tch::no_grad(|| bias.copy_(&Tensor::from_slice(mean)));
    }

    /// Makes every weight trainable, for pretraining and full fine-tuning.
    pub fn unfreeze(&mut self) {
        for tensor in self.weights.values_mut() {
            let _ = tensor.requires_grad_(true);
        }
    }

    /// The same policy for another thread, to act with; the weights are shared.
    pub fn clone_for_thread(&self) -> Self {
        let weights = self.weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        Self::from_weights(self.config.clone(), weights.collect())
    }

    /// The tokens of a step, in order.
    pub fn tokens(&self) -> impl Iterator<Item = Token> {
        self.encoder.tokens().into_iter()
    }

    /// The sites that get adapters where nobody names others, in the order of the forward pass.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.sites.iter().filter(|site| site.adapted_by_default)
    }

    /// The sites whose names end in one of `ends`, heads aside; where there are none, as [`TransformerPolicy::sites`].
    pub fn sites_named(&self, ends: &[String]) -> Result<Vec<Site>, UnknownModule> {
        if ends.is_empty() {
            return Ok(self.sites().cloned().collect());
        }
        let adaptable = |site: &&Site| site.adapted_by_default || self.reads_steps(&site.module);
        Site::ending(self.sites.iter().filter(adaptable), ends)
    }

    /// Every linear module and convolution, in the order of the forward pass.
    pub fn all_sites(&self) -> &[Site] {
        &self.sites
    }

    /// Whether this module reads what the policy is given, rather than another module's output.
    pub fn reads_inputs(&self, module: &ModuleName) -> bool {
        self.encoder.reads_inputs(module)
    }

    /// Whether this module reads a row or an image of every step, as the modules before the trunk do.
    pub fn reads_steps(&self, module: &ModuleName) -> bool {
        self.encoder.holds(module)
    }

    /// The site of this name, if the policy has it.
    pub fn site(&self, module: &ModuleName) -> Option<&Site> {
        self.sites.iter().find(|site| site.module == *module)
    }

    /// Refuses `adapters`, read from the folder at `path`, that are not this policy's.
    pub fn check_adapters(
        &self,
        folder: &AdapterFolder,
        adapters: &AdapterSet,
        path: &Path,
    ) -> Result<(), AdapterError> {
        folder.check_base(
            adapters,
            path,
            (&self.sites, self.family.embedding_tables),
            (&self.weights, &self.config.new_tensors),
        )
    }

    /// Gives every adapter DoRA's magnitude, which starts as the norms of the module's own rows.
    pub fn init_dora(&self, adapters: &mut AdapterSet) {
        for (module, lora) in &mut adapters.sites {
            let norms = tch::no_grad(|| row_norms(&self.matrix(module))); // [out]
            lora.magnitude = Some(norms.set_requires_grad(true));
        }
    }

    /// A site's weight `[out, in]` in f32; shares storage with the policy where that keeps f32.
    pub fn matrix(&self, module: &ModuleName) -> Tensor {
        let weight = self.weights[&format!("{module}.weight")].to_kind(Kind::Float);
        if self.is_transposed(module) { weight.tr() } else { weight.flatten(1, -1) }
    }

    /// The kernels of its convolutions, by which adapters of theirs are written.
    pub fn kernels(&self) -> BTreeMap<ModuleName, Kernel> {
        self.sites.iter().filter_map(|site| Some((site.module.clone(), site.kernel?))).collect()
    }

    /// The policy with the tensors that `adapters` bring in place of its own.
    pub fn with_replaced(self, adapters: &AdapterSet) -> Self {
        let mut weights = self.weights;
        for (name, tensor) in &adapters.replaced {
            weights.insert(name.clone(), tensor.shallow_clone());
        }
        merge_tables(&mut weights, adapters);
        Self::from_weights(self.config, weights)
    }

    /// A copy of the policy with `adapters` folded into its weights.
    pub fn merged(&self, adapters: &AdapterSet) -> Self {
        let mut weights: BTreeMap<String, Tensor> = BTreeMap::new();
        for (name, tensor) in &self.weights {
            let tensor = adapters.replaced.get(name).unwrap_or(tensor);
            weights.insert(name.clone(), tensor.detach().copy());
        }
        for (module, lora) in &adapters.sites {
            let merged = tch::no_grad(|| lora.merged(&self.matrix(module))); // [out, in]
            let merged = if self.is_transposed(module) { merged.tr().contiguous() } else { merged };
            let name = format!("{module}.weight");
            let merged = merged.view_as(&weights[&name]); // a convolution's is [out, C, height, width]
            weights.insert(name, merged);
        }
        merge_tables(&mut weights, adapters);
        Self::from_weights(self.config.clone(), weights)
    }

    fn is_transposed(&self, module: &ModuleName) -> bool {
        self.site(module).expect("a site of this policy").fan_in_fan_out
    }

    /// One token of every step, embedded, without its timestep and position: `[B, T, D]`.
    pub fn embed(&self, context: &mut ForwardContext, inputs: &Inputs, token: Token) -> Tensor {
        self.encoder.embed(context, inputs, token)
    }

    /// What the first block reads: `[B, K, D]`.
    pub fn trunk_inputs(&self, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        self.encoder.encode(context, inputs).0
    }

    /// The trunk's output for every token: `[B, K, D]`.
    pub fn encode(&self, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        let (x, bias) = self.encoder.encode(context, inputs); // [B, K, D], [B, 1, K, K]
        self.trunk.forward(context, x, &bias, None)
    }

    /// The residual stream before every block, and the trunk's output: `[B, K, D]` each.
    pub fn hidden_states(&self, context: &mut ForwardContext, inputs: &Inputs) -> Vec<Tensor> {
        let (x, bias) = self.encoder.encode(context, inputs); // [B, K, D], [B, 1, K, K]
        self.trunk.hidden_states(context, x, &bias)
    }

    /// What follows each token of texts `[B, L]`, as logits over the vocabulary `[B, L, N]`; none where the family reads
    /// no such.
    pub fn text_logits(&self, context: &mut ForwardContext, ids: &Tensor) -> Option<Tensor> {
        let (x, bias) = self.encoder.encode_text(ids)?; // [B, L, D], [B, 1, L, L]
        let encoded = self.trunk.forward(context, x, &bias, None);
        Some(context.project(self.heads.text.as_ref()?, &encoded))
    }

    /// The head of the next state, at the actions' tokens, with all of its outputs: `[B, T, N]`; none where the policy
    /// predicts none.
    pub fn whole_state_head(&self, context: &mut ForwardContext, inputs: &Inputs) -> Option<Tensor> {
        let head = self.heads.state.as_ref()?;
        let (_, after) = self.encode_for_all_heads(context, inputs);
        Some(context.project(head, &after))
    }

    /// Shows the context's tap the inputs of every module of the trunk, and computes nothing that none of them reads.
    pub fn collect_inputs(&self, context: &mut ForwardContext, inputs: &Inputs) {
        let (x, bias) = self.encoder.encode(context, inputs); // [B, K, D], [B, 1, K, K]
        self.trunk.collect_inputs(context, x, &bias);
    }

    /// The trunk's output for the tokens at which actions are read: `[B, T, D]`, or `[B, T, A·D]` where each dimension is
    /// read at a token of its own.
    pub fn encode_for_actions(&self, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        let (x, bias) = self.encoder.encode(context, inputs); // [B, K, D], [B, 1, K, K]
        let first = self.encoder.tokens_to_read() - 1;
        let options = (Kind::Int64, x.device());
        let queried = Tensor::arange_start_step(first, x.size()[1], self.encoder.tokens_per_step(), options); // [T]
        let reads = self.heads.reads_per_step;
        let queried = (queried.unsqueeze(-1) + Tensor::arange(reads, options)).flatten(0, 1); // [T·reads]
        let encoded = self.trunk.forward(context, x, &bias, Some(&queried)); // [B, T·reads, D]
        if reads == 1 { encoded } else { encoded.unflatten(1, [-1, reads].as_slice()).flatten(2, 3) }
    }

    /// The same for the last step alone, for acting: `[B, D]`.
    ///
    /// The last step's action, which nobody has chosen yet, and what follows it are left out.
    pub fn encode_for_acting(&self, inputs: &Inputs) -> Tensor {
        let context = &mut ForwardContext::bare();
        let (x, bias) = self.encoder.encode_for_acting(context, inputs);
        let tokens = x.size()[1] - self.tokens_after_state();
        let x = x.narrow(1, 0, tokens);
        let bias = bias.narrow(2, 0, tokens).narrow(3, 0, tokens);
        let last = Tensor::from_slice(&[tokens - 1]).to_device(x.device());
        self.trunk.forward(context, x, &bias, Some(&last)).squeeze_dim(1)
    }

    /// The mask of tokens: `[B, K]`.
    pub fn token_mask(&self, inputs: &Inputs) -> Tensor {
        self.encoder.token_mask(inputs)
    }

    /// The action head before tanh: `[…, D]` or `[…, A·D]` → `[…, A]`, or `[…, A · bins]` where actions are binned.
    pub fn action_head(&self, context: &mut ForwardContext, x: &Tensor) -> Tensor {
        let whole = self.whole_action_head(context, x); // […, N]
        whole.narrow(-1, 0, self.config.action_outputs())
    }

    /// All outputs of the action head, which may be more than this environment's actions: `[…, D]` or `[…, A·D]` →
    /// `[…, N]`.
    pub fn whole_action_head(&self, context: &mut ForwardContext, x: &Tensor) -> Tensor {
        let mut x = x.shallow_clone();
        let reads = self.heads.reads_per_step;
        if reads > 1 {
            x = x.unflatten(-1, [reads, -1].as_slice()); // […, A, D]
        }
        for hidden in &self.heads.hidden {
            x = context.project(hidden, &x).leaky_relu();
        }
        let x = context.project(&self.heads.action, &x);
        if reads > 1 { x.flatten(-2, -1) } else { x }
    }

    /// The head of one dimension of an action, of policies that read each at a token of its own: `[B, D]` → `[B, ids]`.
    pub(super) fn dimension_head(&self, context: &mut ForwardContext, x: &Tensor) -> Tensor {
        context.project(&self.heads.action, x)
    }

    /// The module of the action head.
    pub fn action_module(&self) -> &ModuleName {
        &self.heads.action.name
    }

    /// The mean action of every step, which has a gradient: `[B, T, A]`, probabilities where discrete.
    pub fn mean_actions(&self, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        let encoded = self.encode_for_actions(context, inputs); // [B, T, D]
        heads::mean(&self.config, &self.action_head(context, &encoded))
    }

    /// The whole forward pass, as the family's reference computes it.
    pub fn forward(&self, context: &mut ForwardContext, inputs: &Inputs) -> Predictions {
        let predicts =
            self.heads.state.is_some() || self.heads.returns.is_some() || self.heads.image.is_some();
        let (before, after) = match predicts {
            true => self.encode_for_all_heads(context, inputs),
            false => {
                let read = self.encode_for_actions(context, inputs);
                (read.shallow_clone(), read)
            }
        }; // [B, T, D] each

        let head = self.action_head(context, &before);
        let (actions, action_logits) = match self.config.action_kind {
            ActionKind::Binned => {
                let logits = bins::split(&head, self.config.act_dim); // [B, T, A, bins]
                (Bins::of(&self.config).mode(&logits), Some(logits))
            }
            _ if self.config.action_tanh => (head.tanh(), None),
            _ => (head, None),
        };
        Predictions {
            actions,
            action_logits,
            states: self
                .heads
                .state
                .as_ref()
                .map(|head| context.project(head, &after).narrow(-1, 0, self.config.numbers())),
            images: self.heads.image.as_ref().map(|head| head.forward(context, &after)),
            returns: self.heads.returns.as_ref().map(|head| context.project(head, &after)),
        }
    }

    /// The trunk's output for the tokens at which actions are read, and for the actions' own, which other heads read:
    /// `[B, T, D]` each. The last block leaves out the others.
    fn encode_for_all_heads(&self, context: &mut ForwardContext, inputs: &Inputs) -> (Tensor, Tensor) {
        let (batch, steps) = inputs.timesteps.size2().expect("inputs are windows [B, T]");
        let (x, bias) = self.encoder.encode(context, inputs); // [B, K, D], [B, 1, K, K]
        let steps_first = Tensor::arange(steps, (Kind::Int64, x.device())) * self.encoder.tokens_per_step(); // [T]
        let action = self.encoder.tokens_to_read();
        let queried = Tensor::stack(&[&steps_first + (action - 1), steps_first + action], 1).flatten(0, 1); // [2·T]
        let read = self.trunk.forward(context, x, &bias, Some(&queried)).view([batch, steps, 2, -1]);
        (read.select(2, 0), read.select(2, 1))
    }

    /// Tokens of a step from its action on, which acting does not read of the last step.
    pub(super) fn tokens_after_state(&self) -> i64 {
        self.encoder.tokens_per_step() - self.encoder.tokens_to_read()
    }
}

/// Merges the adapters of embedding tables: the table `[N, D]` is the map of one-hot vectors as GPT-2 keeps maps.
fn merge_tables(weights: &mut BTreeMap<String, Tensor>, adapters: &AdapterSet) {
    for (module, lora) in &adapters.tables {
        let table = weights.get_mut(&format!("{module}.weight")).expect("the adapters were checked");
        *table = tch::no_grad(|| lora.merged(&table.tr())).tr().contiguous(); // [N, D]
    }
}
