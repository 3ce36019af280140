//! Where a run starts: a new policy's config, and adapters as random LoRA, EVA or a checkpoint has them.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use anyhow::Context;

use eva_rl_agents::adapter::{AdapterFolder, AdapterSet, Origin, Scaling, fingerprint};
use eva_rl_agents::eva::{self, Eva, Found, Progress, Settings};
use eva_rl_agents::methods;
use eva_rl_agents::model::{ActionKind, Conditioning, DecisionTransformer, PolicyConfig as HfConfig};
use eva_rl_agents::site::{Site, Token};
use eva_rl_envs::ActionSpace;
use tch::Tensor;

use crate::config::{ActionHeadConfig, AdapterConfig, LoraConfig, NewPolicyConfig, PolicyConfig, RunPlan};
use crate::data::{Dataset, Replay, observation_moments};
use crate::failure::{InputError, OrInput, tell};
use crate::interrupt;
use crate::learner::ADAPTER_SCALE;
use crate::metrics::{self, Recorder};
use crate::output::absolute;
use crate::rank_map::RankMap;
use crate::rng::{self, Purpose};
use crate::run_dir::RunDir;

/// The config of a new policy, normalised by its data.
pub fn new_policy(new: &NewPolicyConfig, datasets: &[Dataset]) -> HfConfig {
    let (dataset, (mean, deviation)) = (&datasets[0], observation_moments(datasets));
    let (act_dim, action_kind, low, high) = match &dataset.action {
        ActionSpace::Discrete { n, .. } => (*n, ActionKind::Discrete, None, None),
        ActionSpace::MultiDiscrete { .. } => unreachable!("`agent::check_actions` refuses it"),
        ActionSpace::Box { low, high } => {
            let kind = match new.action_head {
                ActionHeadConfig::Continuous {} => ActionKind::Continuous,
                ActionHeadConfig::Binned { .. } => ActionKind::Binned,
            };
            (low.len(), kind, Some(low.clone()), Some(high.clone()))
        }
    };
    let action_bins = match new.action_head {
        ActionHeadConfig::Binned { bins } if action_kind == ActionKind::Binned => Some(bins),
        _ => None,
    };
    let mut config = HfConfig {
        state_dim: dataset.observation_width as i64,
        act_dim: act_dim as i64,
        hidden_size: new.hidden_size,
        max_ep_len: new.max_episode_length,
        action_tanh: action_kind == ActionKind::Continuous,
        n_positions: new.tokens.len() as i64 * new.context_length,
        activation_function: new.activation,
        action_bins,
        token_order: new.tokens.clone(),
        global_positions: new.global_positions,
        n_layer: new.layers,
        n_head: new.heads,
        resid_pdrop: new.dropout,
        embd_pdrop: new.dropout,
        attn_pdrop: new.dropout,
        action_kind,
        context_length: Some(new.context_length),
        state_mean: Some(mean),
        state_std: Some(deviation),
        return_scale: Some(new.return_scale),
        target_return: Some(new.target_return),
        max_return_to_go: datasets.iter().filter_map(Dataset::max_return_to_go).reduce(f32::max),
        action_low: low,
        action_high: high,
        ..HfConfig::default()
    };
    config.model_type = config.own_model_type().to_owned();
    if config.model_type != HfConfig::default().model_type {
        config.other.remove("architectures"); // transformers has no class for it
    }
    config
}

/// What the adapters' folder says, whatever they have learned.
fn facts(plan: &RunPlan, policy: &DecisionTransformer) -> AdapterFolder {
    let base = match &plan.policy {
        PolicyConfig::Pretrained { path, .. } => absolute(path).display().to_string(),
        PolicyConfig::New(_) => String::new(),
    };
    let origin = match &plan.adapter {
        AdapterConfig::Eva(eva) => eva.settings().origin(),
        _ => Origin::Lora,
    };
    let lora = plan.adapter.lora();
    AdapterFolder {
        base,
        fingerprint: Some(fingerprint(policy.weights())),
        rank: lora.map_or(1, |lora| lora.rank.get()),
        scaling: lora.map_or(Scaling { alpha: 1.0, rank_stabilised: false }, scaling),
        origin,
    }
}

fn scaling(lora: &LoraConfig) -> Scaling {
    Scaling { alpha: lora.alpha, rank_stabilised: lora.rslora }
}

/// Refuses a rank that some map of the policy is too small for.
pub fn check_rank(plan: &RunPlan, policy: &DecisionTransformer) -> anyhow::Result<()> {
    let Some(lora) = plan.adapter.lora() else { return Ok(()) };
    let wanted = match &plan.adapter {
        AdapterConfig::LoraGa(_) => 2 * lora.rank.get(), // A and B take different directions
        _ => lora.rank.get(),
    };
    for site in policy.sites() {
        let (input, output) = policy.site_shape(site).expect("a site of this policy");
        if wanted > input.min(output) {
            return Err(InputError(format!(
                "{} takes {wanted} directions, and {site} maps {input} numbers to {output}: lower the rank",
                plan.adapter.label()
            ))
            .into());
        }
    }
    Ok(())
}

/// Refuses kinds of tokens that the policy does not have, of which no activation could count.
pub fn check_tokens(tokens: &[Token], policy: &DecisionTransformer) -> anyhow::Result<()> {
    let known = &policy.config().token_order;
    match tokens.iter().find(|token| !known.contains(token)) {
        None => Ok(()),
        Some(token) => {
            let word = |tokens| serde_json::to_string(tokens).expect("tokens can be written as JSON");
            let (token, known) = (word(std::slice::from_ref(token)), word(known));
            Err(InputError(format!("EVA's `tokens` holds {token}, expected some of the policy's, {known}"))
                .into())
        }
    }
}

/// What initialisation looks at.
pub struct Material<'a> {
    /// The policy to be adapted.
    pub policy: &'a DecisionTransformer,
    /// Its keys for acting.
    pub conditioning: &'a Conditioning,
    /// The task's trajectories.
    pub offline: &'a Replay,
}

/// Adapters as the config wants them at the start; nothing in full fine-tuning. Abandoned where the run is to
/// stop.
pub fn initialise_adapters(
    plan: &RunPlan,
    material: &Material,
    run_dir: &RunDir,
    recorder: &mut Recorder,
) -> anyhow::Result<Option<(AdapterFolder, AdapterSet)>> {
    let Material { policy, conditioning, offline } = material;
    let begun = Instant::now();
    rng::seed_torch(plan.seed, Purpose::Weights, 1);
    let mut adapters = match &plan.adapter {
        AdapterConfig::FullFineTuning {} => return Ok(None),
        AdapterConfig::HeadOnly {} => methods::head_only(policy),
        AdapterConfig::Eva(eva) => {
            let search = Search {
                settings: eva.settings(),
                sites: &policy.sites(),
                tokens: &eva.tokens,
                batch_size: plan.optimiser.batch_size,
                max_batches: eva.max_batches,
                seed: plan.seed,
            };
            let each = |batch, progress: Progress| {
                interrupt::check()?;
                recorder.scalar(metrics::EVA_SETTLED, batch, progress.settled)
            };
            let (found, outcome) = search.run(policy, conditioning, offline, each)?;
            recorder.sites(&found.reports)?;
            RankMap::new(&found.reports, outcome.batches).write(run_dir.root())?;
            tell(&format!("EVA: {outcome}, {:.1} s", begun.elapsed().as_secs_f64()));
            eva::adapters(&found, policy, scaling(&eva.lora).scale(eva.lora.rank.get()), 0.0)
        }
        _ => {
            let (method, count) = plan.adapter.method().expect("the others have a method");
            let lora = plan.adapter.lora().expect("the others have adapters");
            let going_on = |_: &usize| interrupt::asked().is_none();
            let batches = (0..count).take_while(going_on).map(|batch| {
                let mut windows_rng = rng::generator(plan.seed, Purpose::EvaWindows, batch);
                let steps = conditioning.context_length;
                let windows = offline.sample(plan.optimiser.batch_size, steps, &mut windows_rng);
                conditioning.inputs(&windows.view())
            });
            let begun = methods::begin(policy, method.as_ref(), lora.rank, scaling(lora), batches);
            interrupt::check()?;
            begun.or_input()?
        }
    };
    if let Some(lora) = plan.adapter.lora() {
        adapters.dropout = lora.dropout;
        if lora.dora {
            policy.start_dora(&mut adapters);
        }
    }
    recorder.scalar(metrics::INITIALISATION_SECS, 0, begun.elapsed().as_secs_f64())?;
    Ok(Some((facts(plan, policy), adapters)))
}

/// Adapters as a checkpoint has them; nothing in full fine-tuning.
pub fn restore_adapters(
    plan: &RunPlan,
    policy: &DecisionTransformer,
    tensors: &HashMap<String, Tensor>,
) -> anyhow::Result<Option<(AdapterFolder, AdapterSet)>> {
    if matches!(plan.adapter, AdapterConfig::FullFineTuning {}) {
        return Ok(None);
    }
    let scale = tensors.get(ADAPTER_SCALE).context("the checkpoint lacks the adapters' scale")?;
    let scale = f64::from_bits(scale.int64_value(&[]).cast_unsigned());
    let dropout = plan.adapter.lora().map_or(0.0, |lora| lora.dropout);
    let adapters = AdapterSet::from_state(tensors, scale, dropout, policy.device())?;
    Ok(Some((facts(plan, policy), adapters)))
}

/// EVA's search over a dataset.
pub struct Search<'a> {
    /// What is looked for.
    pub settings: Settings,
    /// Where.
    pub sites: &'a [Site],
    /// Kinds of tokens that count; all where empty.
    pub tokens: &'a [Token],
    /// Windows a batch.
    pub batch_size: usize,
    /// Batches after which it ends, settled or not.
    pub max_batches: usize,
    /// Decides the windows.
    pub seed: u64,
}

/// How a search ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Batches that it took.
    pub batches: usize,
    /// How far it came.
    pub progress: Progress,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { settled, done } = self.progress;
        let how = if done { "settled" } else { "ended, not yet settled," };
        write!(f, "{how} after {} batches, {:.0}% of the sites by themselves", self.batches, 100.0 * settled)
    }
}

impl Search<'_> {
    /// Shows EVA batches of windows until it has settled; `each` hears of every batch.
    pub fn run(
        &self,
        policy: &DecisionTransformer,
        conditioning: &Conditioning,
        data: &Replay,
        mut each: impl FnMut(usize, Progress) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Found<Site>, Outcome)> {
        // Every window once in a random order, before any comes again in another.
        let whole = data.steps_of_a_pass().div_ceil(self.batch_size);
        let mut order = Vec::new();
        let inputs = eva::inputs_of(policy, self.sites);
        let mut eva = Eva::new(inputs, self.settings, Some(whole), policy.device());
        let mut progress = Progress { settled: 0.0, done: false };
        while !progress.done && eva.batches() < self.max_batches {
            let (round, batch) = (eva.batches() / whole, eva.batches() % whole);
            if batch == 0 {
                order = data.pass(&mut rng::generator(self.seed, Purpose::EvaWindows, round));
            }
            let starts = order.chunks(self.batch_size).nth(batch).expect("a round has so many batches");
            let inputs = conditioning.inputs(&data.windows(starts, conditioning.context_length).view());
            progress = eva::observe_policy(&mut eva, policy, &inputs, self.tokens).or_input()?;
            each(eva.batches(), progress)?;
        }
        let batches = eva.batches();
        Ok((eva.finish().or_input()?, Outcome { batches, progress }))
    }
}
