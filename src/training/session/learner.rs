//! What a run trains: the policy with its adapters, Online DT's head, and their optimisers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use eva_rl_agents::adapter::{AdapterFolder, AdapterSet};
use eva_rl_agents::adapter_init::{Method, RankAllocator, orthogonality};
use eva_rl_agents::loss::{self, Spread, StochasticHead};
use eva_rl_agents::model::{self, ForwardContext, FusedLora, Inputs, TransformerPolicy};
use eva_rl_agents::optimiser::{Optimiser, Settings};
use tch::{Device, Tensor};

use super::non_finite::{NonFiniteProbe, NonFiniteSource};
use crate::config::{LossConfig, OptimiserConfig, Precision, RunPlan};
use crate::metrics::{self, Metric};
use crate::policies;

/// The adapters' scale among a checkpoint's tensors, as the bits of an f64.
pub const ADAPTER_SCALE: &str = "adapter_scale";

/// Deviation of a head whose own start is still to be found from data.
const NO_STD_YET: f64 = 0.3;

/// What a run trains.
pub struct Learner {
    /// The policy; frozen where there are adapters.
    pub policy: TransformerPolicy,
    /// The adapters; none in full fine-tuning.
    pub adapters: AdapterSet,
    /// What the adapters' folder says; absent in full fine-tuning.
    pub folder: Option<AdapterFolder>,
    /// Online DT's head, where that is the loss.
    pub head: Option<StochasticHead>,
    optimiser: Optimiser,
    temperature: Option<(Optimiser, f64)>,
    /// AdaLoRA's budget, and the weight of its regulariser in the loss.
    allocator: Option<(RankAllocator, f64)>,
    /// Whether updates multiply in bfloat16.
    mixed: bool,
}

/// What an update minimises on its batch, and what its gradients need.
#[derive(Debug)]
pub struct UpdateLoss {
    /// `[]`.
    pub loss: Tensor,
    /// What Online DT's temperature minimises, `[]`.
    pub temperature: Option<Tensor>,
    /// What it is made of, to be recorded.
    pub parts: Vec<(Metric, f64)>,
    /// What the passes that computed it kept of their adapters.
    pub fused: FusedLora,
}

/// What one step of the optimiser did.
#[derive(Clone, Copy, Debug)]
pub struct Descent {
    /// The loss.
    pub loss: f64,
    /// Joint norm of the gradients before clipping.
    pub grad_norm: f64,
    /// The learning rate.
    pub learning_rate: f64,
}

impl Learner {
    /// Ready for the first update. Without adapters the policy's own weights are trained.
    pub fn new(
        mut policy: TransformerPolicy,
        adapters: Option<(AdapterFolder, AdapterSet)>,
        plan: &RunPlan,
    ) -> Self {
        let mut trained = match &adapters {
            Some((_, adapters)) => {
                policy = policy.with_replaced(adapters);
                adapters.parameters()
            }
            None => {
                policy.unfreeze();
                policy.weights().iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
            }
        };
        let mut head = None;
        let mut temperature = None;
        if let LossConfig::OnlineDt(online_dt) = &plan.loss {
            let std = online_dt.initial_std.unwrap_or(NO_STD_YET);
            let stochastic = StochasticHead::new(&policy, std, online_dt.initial_temperature);
            trained.extend(stochastic.parameters());
            let optimiser = Optimiser::new(stochastic.temperature_parameters(), Settings::default());
            temperature = Some((optimiser, online_dt.temperature_learning_rate));
            head = Some(stochastic);
        }
        let settings = Settings {
            algorithm: plan.optimiser.algorithm,
            weight_decay: plan.optimiser.weight_decay,
            ..Settings::default()
        };
        let optimiser = Optimiser::new(trained, settings).with_lora_plus(plan.optimiser.lora_plus_ratio);
        let (folder, adapters) = adapters.unzip();
        let adapters = adapters.unwrap_or_default();
        let allocator = match &plan.adapter {
            Method::Adalora(ada) => {
                let schedule = ada.schedule(plan.total_updates());
                Some((RankAllocator::new(&adapters, schedule), ada.orth_reg_weight))
            }
            _ => None,
        };
        let mixed = plan.optimiser.precision == Precision::Mixed;
        Self { optimiser, policy, adapters, folder, head, temperature, allocator, mixed }
    }

    /// Lets the head's deviations begin where the recorded actions of some batches are most likely, and gives
    /// them; none where the loss has no normal distribution.
    pub fn start_spread(&self, batches: &[Inputs]) -> Option<Vec<f32>> {
        let head = self.head.as_ref()?;
        let std = tch::no_grad(|| head.residual_std(&self.policy, &self.adapters, batches))?; // [A]
        head.initialise_std(&std);
        Some(Vec::try_from(std.to_device(Device::Cpu)).expect("deviations are f32"))
    }

    /// The run's loss on a batch.
    pub fn loss(&self, inputs: &Inputs) -> UpdateLoss {
        let mut fused = FusedLora::default();
        let context = &mut self.context().train(true).mixed(self.mixed).fused(&mut fused);
        let Some(head) = &self.head else {
            let loss = loss::behaviour_cloning(&self.policy, context, inputs);
            return UpdateLoss { loss, temperature: None, parts: Vec::new(), fused };
        };
        let loss = head.loss(&self.policy, context, inputs);
        let mut parts = vec![
            (metrics::LOG_LIKELIHOOD, loss.log_likelihood),
            (metrics::ENTROPY, loss.entropy),
            (metrics::TEMPERATURE, head.temperature()),
        ];
        parts.extend(spread_parts(loss.spread));
        UpdateLoss { loss: loss.policy, temperature: Some(loss.temperature), parts, fused }
    }

    /// The run's loss on a batch, without dropout; nothing is updated.
    pub fn validation_loss(&self, inputs: &Inputs) -> f64 {
        let context = &mut self.context();
        let loss = tch::no_grad(|| match &self.head {
            None => loss::behaviour_cloning(&self.policy, context, inputs),
            Some(head) => head.loss(&self.policy, context, inputs).policy,
        });
        loss.double_value(&[])
    }

    /// One optimiser step down a loss, and one of the temperature; `update` counts from 0 over the run's `total`.
    ///
    /// Where a loss or a gradient is not finite nothing moves, and the name of the first such is given.
    pub fn descend(
        &mut self,
        update_loss: &UpdateLoss,
        update: usize,
        total: usize,
        settings: &OptimiserConfig,
    ) -> Result<Descent, String> {
        let loss = &update_loss.loss;
        let found = loss.double_value(&[]);
        if !found.is_finite() {
            return Err(format!("the loss is {found}"));
        }
        if let Some(loss) = &update_loss.temperature {
            let found = loss.double_value(&[]); // which is its gradient too
            if !found.is_finite() {
                return Err(format!("the temperature's loss is {found}"));
            }
        }
        let peak = settings.learning_rate;
        let rate = settings.schedule.learning_rate(peak, update, total);
        self.optimiser.zero_grad();
        let loss = match &self.allocator {
            Some((_, weight)) => loss + orthogonality(&self.adapters) * *weight,
            None => loss.shallow_clone(),
        };
        update_loss.fused.backward(&loss, &self.adapters, &self.optimiser.parameters());
        let grad_norm = self.optimiser.grad_norm();
        if !grad_norm.is_finite() {
            return Err(match self.optimiser.first_not_finite() {
                Some(parameter) => format!("the gradient of `{parameter}` is not finite"),
                None => format!("the gradients' joint norm is {grad_norm}"),
            });
        }
        self.optimiser.clip(grad_norm, settings.gradient_clip);
        self.optimiser.step(rate);
        if let (Some((optimiser, rate)), Some(loss)) = (&mut self.temperature, &update_loss.temperature) {
            optimiser.zero_grad();
            loss.backward();
            optimiser.step(*rate);
        }
        if let Some((allocator, _)) = &mut self.allocator {
            allocator.update(&self.adapters, update);
        }
        Ok(Descent { loss: found, grad_norm, learning_rate: rate })
    }

    /// Log-probability of every step's recorded action under Online DT's distribution, without dropout:
    /// `[B, T]`, 0 where a step pads; with what is to be recorded of it. None where the loss has no
    /// distribution.
    pub fn log_probs(&self, fused: &mut FusedLora, inputs: &Inputs) -> Option<(Tensor, Vec<(Metric, f64)>)> {
        let head = self.head.as_ref()?;
        let context = &mut self.context().mixed(self.mixed).fused(fused);
        let (log_probs, spread) = head.log_probs(&self.policy, context, inputs);
        Some((log_probs, spread_parts(spread)))
    }

    /// The mean action of every step, without dropout: `[B, T, A]`, probabilities where discrete.
    pub fn mean_actions(&self, fused: &mut FusedLora, inputs: &Inputs) -> Tensor {
        let context = &mut self.context().mixed(self.mixed).fused(fused);
        self.policy.mean_actions(context, inputs)
    }

    fn context(&self) -> ForwardContext<'_> {
        ForwardContext::with_adapters(&self.adapters)
    }

    /// The linear module at which a batch first gives numbers that are not finite, if there is one.
    pub fn first_not_finite(&self, inputs: &Inputs) -> Option<NonFiniteSource> {
        let mut probe = NonFiniteProbe::new(&self.policy);
        let context = &mut self.context().mixed(self.mixed).observed_by(&mut probe);
        let encoded = tch::no_grad(|| self.policy.encode_for_actions(context, inputs)); // [B, T, D]
        let head = tch::no_grad(|| self.policy.action_head(context, &encoded)); // [B, T, A] or [B, T, A · bins]
        probe.source(head.isfinite().all().int64_value(&[]) == 1)
    }

    /// Parameters that are trained.
    pub fn trained_parameters(&self) -> usize {
        match &self.folder {
            Some(_) => self.adapters.parameter_count(),
            None => self.policy.weights().values().map(Tensor::numel).sum(),
        }
    }

    /// A frozen copy that acts as the learner does now, its adapters merged.
    pub fn acting(&self) -> TransformerPolicy {
        tch::no_grad(|| self.policy.merged(&self.adapters))
    }

    /// Writes what was trained into `folder`: `adapter/`, or `policy/` in full fine-tuning.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let part = self.trained_folder(folder);
        std::fs::create_dir(&part).with_context(|| format!("cannot make {part:?}"))?;
        match &self.folder {
            Some(facts) => {
                facts.write(&self.adapters, &part)?;
                policies::write_statistics(self.policy.config(), &part)?;
                policies::write_new_tasks(self.policy.config(), &part)?;
            }
            None => model::write(&self.policy, &part)?,
        }
        Ok(())
    }

    /// Where [`Learner::write`] puts what was trained.
    pub fn trained_folder(&self, folder: &Path) -> PathBuf {
        folder.join(if self.folder.is_some() { "adapter" } else { "policy" })
    }

    /// What a checkpoint holds beside that: the adapters as they are trained, the head, the optimisers' moments.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.optimiser.state();
        if self.folder.is_some() {
            state.extend(self.adapters.state());
            let scale = self.adapters.sites.values().next().map_or(1.0, |lora| lora.scale); // every site has it
            state.push((ADAPTER_SCALE.to_owned(), Tensor::from(scale.to_bits().cast_signed())));
        }
        if let Some((allocator, _)) = &self.allocator {
            state.extend(allocator.state());
        }
        if let (Some(head), Some((optimiser, _))) = (&self.head, &self.temperature) {
            state.extend(head.parameters());
            state.extend(head.temperature_parameters());
            let moments = optimiser.state();
            state.extend(moments.into_iter().map(|(name, tensor)| (format!("temperature.{name}"), tensor)));
        }
        state
    }

    /// Takes back what [`Learner::state`] gave.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> anyhow::Result<()> {
        let find = |name: &str| state.get(name).map(Tensor::shallow_clone);
        self.optimiser.load_state(find)?;
        if let Some((allocator, _)) = &mut self.allocator {
            allocator.load_state(find)?;
        }
        if let (Some(head), Some((optimiser, _))) = (&self.head, &mut self.temperature) {
            let mut parameters = head.parameters();
            parameters.extend(head.temperature_parameters());
            loss::restore(&parameters, find)
                .map_err(|name| anyhow::anyhow!("the checkpoint lacks `{name}`"))?;
            optimiser.load_state(|name| find(&format!("temperature.{name}")))?;
        }
        Ok(())
    }
}

/// How far normal actions spread, to be recorded.
fn spread_parts(spread: Option<Spread>) -> Vec<(Metric, f64)> {
    let parts = |spread: Spread| {
        vec![(metrics::SATURATED_FRACTION, spread.saturated), (metrics::ACTION_STD, spread.std)]
    };
    spread.map_or_else(Vec::new, parts)
}

#[cfg(test)]
mod tests {
    use eva_rl_agents::adapter::site::ModuleName;
    use eva_rl_agents::adapter::{Lora, Origin, Rank, Scaling, lora};
    use eva_rl_agents::model::Activation;
    use tch::Kind;

    use super::*;
    use crate::config;

    fn plan() -> RunPlan {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/demo.toml");
        config::load(&demo, &[]).unwrap().plan().unwrap()
    }

    fn facts(scaling: Scaling) -> AdapterFolder {
        let origin = Origin::Lora;
        AdapterFolder {
            revision: None,
            base: String::new(),
            fingerprint: None,
            rank: 2,
            scaling,
            origin,
            fan_in_fan_out: true,
            kernels: Default::default(),
        }
    }

    fn base() -> TransformerPolicy {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents/tests/golden/policies/plain");
        model::read(&folder, model::Given::default(), Device::Cpu).unwrap()
    }

    fn inputs(policy: &TransformerPolicy) -> Inputs {
        let float = (Kind::Float, Device::Cpu);
        Inputs {
            states: Tensor::randn([4, 3, policy.config().state_dim], float),
            words: None,
            images: None,
            previous: None,
            actions: Tensor::rand([4, 3, policy.config().act_dim], float) * 2.0 - 1.0,
            rewards: None,
            returns_to_go: Tensor::randn([4, 3, 1], float),
            timesteps: Tensor::arange(3, (Kind::Int64, Device::Cpu)).repeat([4, 1]),
            mask: Tensor::ones([4, 3], (Kind::Bool, Device::Cpu)),
        }
    }

    #[test]
    fn adaptation_changes_every_adapter_and_leaves_the_base_bit_for_bit() {
        let (plan, untouched, policy) = (plan(), base(), base());
        let (rank, scaling) = (Rank::try_from(2).unwrap(), Scaling { alpha: 2.0, rank_stabilised: false });
        let mut adapters = AdapterSet::default();
        for site in policy.sites() {
            let lora = lora(site.input, site.output, rank, scaling, Device::Cpu);
            adapters.sites.insert(site.module.clone(), lora);
        }
        policy.init_dora(&mut adapters);
        let begun: Vec<Tensor> =
            adapters.parameters().iter().map(|(_, tensor)| tensor.detach().copy()).collect();
        let facts = facts(scaling);
        let inputs = inputs(&policy);
        let mut learner = Learner::new(policy, Some((facts, adapters)), &plan);
        for update in 0..10 {
            let update_loss = learner.loss(&inputs);
            learner.descend(&update_loss, update, 10, &plan.optimiser).unwrap();
        }
        for ((name, now), begun) in learner.adapters.parameters().iter().zip(begun) {
            assert_ne!(*now, begun, "{name} did not change");
        }
        assert_eq!(learner.policy.weights(), untouched.weights());
        assert_ne!(learner.acting().weights(), untouched.weights());
    }

    /// The loss of a first update, and the gradient that it leaves at each of the adapters' tensors.
    fn first_update(
        precision: Precision,
        policy: &TransformerPolicy,
        adapters: AdapterSet,
        inputs: &Inputs,
    ) -> (f64, Vec<(String, Tensor)>) {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/demo-lora.toml");
        let mut config = config::load(&demo, &["loss={ behaviour_cloning = {} }".to_owned()]).unwrap();
        (config.online, config.optimiser.precision) = (None, precision);
        let scaling = Scaling { alpha: 2.0, rank_stabilised: false };
        let facts = facts(scaling);
        let policy = policy.merged(&AdapterSet::default()); // a copy
        let learner = Learner::new(policy, Some((facts, adapters)), &config.plan().unwrap());
        let update_loss = learner.loss(inputs);
        update_loss.fused.backward(&update_loss.loss, &learner.adapters, &learner.optimiser.parameters());
        let parameters = learner.adapters.parameters().into_iter();
        (update_loss.loss.double_value(&[]), parameters.map(|(name, tensor)| (name, tensor.grad())).collect())
    }

    #[test]
    fn mixed_precision_has_single_precision_s_gradients_to_bfloat16_s_digits() {
        // Smooth, because rounding may put a number on the other side of relu's corner.
        let smooth_without_dropout = model::PolicyConfig {
            activation_function: Activation::Silu,
            resid_pdrop: 0.0,
            embd_pdrop: 0.0,
            attn_pdrop: 0.0,
            ..base().config().clone()
        };
        let policy = TransformerPolicy::new(smooth_without_dropout, Device::Cpu);
        let inputs = inputs(&policy);
        let (rank, scaling) = (Rank::try_from(2).unwrap(), Scaling { alpha: 2.0, rank_stabilised: false });
        for dora in [false, true] {
            let (mut one, mut other) = (AdapterSet::default(), AdapterSet::default());
            for site in policy.sites() {
                let lora = lora(site.input, site.output, rank, scaling, Device::Cpu);
                let up = Tensor::randn([site.output, 2], (Kind::Float, Device::Cpu));
                let down = lora.down.detach();
                for set in [&mut one, &mut other] {
                    set.sites
                        .insert(site.module.clone(), Lora::new(down.copy(), up.copy() * 0.1, lora.scale));
                }
            }
            if dora {
                [&mut one, &mut other].into_iter().for_each(|set| policy.init_dora(set));
            }
            let (single, exact) = first_update(Precision::Single, &policy, one, &inputs);
            let (mixed, rounded) = first_update(Precision::Mixed, &policy, other, &inputs);
            assert!((mixed / single - 1.0).abs() < 0.02 && mixed != single, "{mixed}, {single}");
            for ((name, exact), (_, rounded)) in exact.iter().zip(&rounded) {
                assert_eq!(rounded.kind(), Kind::Float, "{name}");
                let along = (rounded * exact).sum(Kind::Float) / (rounded.norm() * exact.norm());
                let along = along.double_value(&[]);
                assert!(along > 0.99, "the gradient of {name} points elsewhere: {along}");
            }
        }
    }

    #[test]
    fn an_update_that_is_not_finite_changes_nothing() {
        let (plan, policy) = (plan(), base());
        let good = inputs(&policy);
        let mut learner = Learner::new(policy, None, &plan);
        let numbers = |learner: &Learner| -> Vec<(String, Tensor)> {
            let weights = learner.policy.weights().iter().map(|(name, x)| (name.clone(), x.shallow_clone()));
            weights.chain(learner.state()).map(|(name, x)| (name, x.detach().copy())).collect()
        };
        let begun = numbers(&learner);
        let spoilt = Inputs { states: &good.states * f64::NAN, ..good };
        let update_loss = learner.loss(&spoilt);
        assert_eq!(learner.descend(&update_loss, 0, 2, &plan.optimiser).unwrap_err(), "the loss is NaN");
        assert_eq!(numbers(&learner), begun);

        let good = inputs(&learner.policy);
        let update_loss = learner.loss(&good);
        let spoilt = update_loss.temperature.as_ref().map(|loss| loss * f64::INFINITY);
        let update_loss = UpdateLoss { temperature: spoilt, ..update_loss };
        let said = learner.descend(&update_loss, 0, 2, &plan.optimiser).unwrap_err();
        assert!(said.starts_with("the temperature's loss is "), "{said}");
        assert_eq!(numbers(&learner), begun);

        let update_loss = learner.loss(&good);
        learner.descend(&update_loss, 0, 2, &plan.optimiser).unwrap();
        let moved = numbers(&learner);
        let changed = |wanted: &str| {
            let now = moved.iter().zip(&begun).find(|((name, _), _)| name == wanted);
            now.is_some_and(|((_, now), (_, begun))| now != begun)
        };
        assert!(changed("head.log_temperature") && changed("head.spread.bias"));
    }

    #[test]
    fn the_module_that_is_not_finite_is_found_and_a_batch_too() {
        let policy = base();
        let (module, inputs) = (ModuleName::from("encoder.h.0.mlp.c_fc"), inputs(&policy));
        let learner = Learner::new(policy, None, &plan());
        assert_eq!(learner.first_not_finite(&inputs), None);
        let mut bias = learner.policy.weights()[&format!("{module}.bias")].shallow_clone();
        let _ = tch::no_grad(|| bias.fill_(f64::INFINITY));
        assert_eq!(learner.first_not_finite(&inputs), Some(NonFiniteSource::Module(module)));
        let spoilt = Inputs { states: &inputs.states * f64::NAN, ..inputs };
        assert_eq!(learner.first_not_finite(&spoilt), Some(NonFiniteSource::Batch("embed_state".into())));
    }

    #[test]
    fn full_fine_tuning_changes_the_policy_and_frozen_copies_do_not_follow() {
        let (plan, policy) = (plan(), base());
        let inputs = inputs(&policy);
        let mut learner = Learner::new(policy, None, &plan);
        let acting = learner.acting();
        let update_loss = learner.loss(&inputs);
        learner.descend(&update_loss, 0, 1, &plan.optimiser).unwrap();
        let name = "encoder.h.0.mlp.c_fc.weight";
        assert_eq!(acting.weights()[name], base().weights()[name]);
        assert_ne!(learner.policy.weights()[name], base().weights()[name]);
        assert!(!acting.weights()[name].requires_grad());
    }
}
