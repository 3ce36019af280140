//! What a run trains: the policy with its adapters, Online DT's head, and their optimisers.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;
use eva_rl_agents::adapter::{AdapterFolder, AdapterSet, fingerprint};
use eva_rl_agents::adapter_init::{Method, RankAllocator, orthogonality};
use eva_rl_agents::loss::{self, Spread, StochasticHead};
use eva_rl_agents::model::{self, ForwardContext, FusedLora, Inputs, TransformerPolicy};
use eva_rl_agents::optimiser::{Optimiser, Settings};
use eva_rl_agents::ranks::{Ranks, sum_over};
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
    /// The share of the whole batch's steps that are in it; all ranks' sum to 1.
    pub share: f64,
}

/// What one step of the optimiser did.
#[derive(Clone, Debug)]
pub struct Descent {
    /// The loss on the whole batch.
    pub loss: f64,
    /// What it is made of.
    pub parts: Vec<(Metric, f64)>,
    /// Joint norm of the gradients before clipping.
    pub grad_norm: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Whether any rank was asked to stop.
    pub stops: bool,
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

    /// The run's loss on a batch, or on these `rows` of one.
    pub fn loss(&self, inputs: &Inputs, rows: Option<Range<usize>>) -> UpdateLoss {
        let mut fused = FusedLora::default();
        let context = &mut self.context().train(true).mixed(self.mixed).of_rows(rows).fused(&mut fused);
        let Some(head) = &self.head else {
            let loss = loss::behaviour_cloning(&self.policy, context, inputs);
            return UpdateLoss { loss, temperature: None, parts: Vec::new(), fused, share: 1.0 };
        };
        let loss = head.loss(&self.policy, context, inputs);
        let mut parts = vec![
            (metrics::LOG_LIKELIHOOD, loss.log_likelihood),
            (metrics::ENTROPY, loss.entropy),
            (metrics::TEMPERATURE, head.temperature()),
        ];
        parts.extend(spread_parts(loss.spread));
        UpdateLoss { loss: loss.policy, temperature: Some(loss.temperature), parts, fused, share: 1.0 }
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

    /// One optimiser step down a loss, and one of the temperature; `update` counts from 0 over the run's `total`. Each
    /// of `ranks` gives the loss of its part of the batch, and says whether it `stops`; all make the same step.
    ///
    /// Where a loss or a gradient is not finite nothing moves, and the name of the first such is given.
    pub fn descend(
        &mut self,
        update_loss: &UpdateLoss,
        update: usize,
        total: usize,
        settings: &OptimiserConfig,
        ranks: &dyn Ranks,
        stops: bool,
    ) -> Result<Descent, String> {
        let UpdateLoss { loss, temperature, parts, share, .. } = update_loss;
        let number = |loss: &Tensor| loss.double_value(&[]) * share;
        let mut numbers =
            vec![number(loss), temperature.as_ref().map_or(0.0, number), f64::from(u8::from(stops))];
        numbers.extend(parts.iter().map(|(_, part)| part * share));
        let peak = settings.learning_rate;
        let rate = settings.schedule.learning_rate(peak, update, total);
        self.optimiser.zero_grad();
        let loss = match &self.allocator {
            Some((_, weight)) => loss + orthogonality(&self.adapters) * *weight,
            None => loss.shallow_clone(),
        };
        let loss = if *share == 1.0 { loss } else { loss * *share };
        update_loss.fused.backward(&loss, &self.adapters, &self.optimiser.parameters());
        let mut gradients: Vec<Tensor> = self.optimiser.gradients().collect();
        if let (Some((optimiser, _)), Some(loss)) = (&mut self.temperature, temperature) {
            optimiser.zero_grad();
            (loss * *share).backward();
            gradients.extend(optimiser.gradients());
        }
        sum_over(ranks, &gradients, &mut numbers);
        let (found, of_temperature) = (numbers[0], numbers[1]); // whose gradient that is too
        if !found.is_finite() {
            return Err(format!("the loss is {found}"));
        }
        if !of_temperature.is_finite() {
            return Err(format!("the temperature's loss is {of_temperature}"));
        }
        let grad_norm = self.optimiser.grad_norm();
        if !grad_norm.is_finite() {
            return Err(match self.optimiser.first_not_finite() {
                Some(parameter) => format!("the gradient of `{parameter}` is not finite"),
                None => format!("the gradients' joint norm is {grad_norm}"),
            });
        }
        self.optimiser.clip(grad_norm, settings.gradient_clip);
        self.optimiser.step(rate);
        if let (Some((optimiser, rate)), Some(_)) = (&mut self.temperature, temperature) {
            optimiser.step(*rate);
        }
        if let Some((allocator, _)) = &mut self.allocator {
            allocator.update(&self.adapters, update);
        }
        let parts = parts.iter().map(|(metric, _)| *metric).zip(numbers[3..].iter().copied()).collect();
        Ok(Descent { loss: found, parts, grad_norm, learning_rate: rate, stops: numbers[2] > 0.0 })
    }

    /// A checksum of what is trained.
    pub fn checksum(&self) -> String {
        let state = self.optimiser.named();
        fingerprint(state.iter().map(|(name, tensor)| (name, tensor)))
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
mod tests;
