//! Where a run starts: a new policy's config, and adapters as random LoRA, EVA or a checkpoint has them.

use std::path::Path;
use std::time::Instant;

use eva_rl_agents::adapter::{self, AdapterFolder, AdapterSet, Origin, Scaling, fingerprint};
use eva_rl_agents::eva::{Eva, Settings};
use eva_rl_agents::model::{ActionKind, Conditioning, DecisionTransformer, PolicyConfig as HfConfig};
use eva_rl_envs::ActionSpace;

use crate::agent;
use crate::config::{
    ActionHeadConfig, AdapterConfig, EvaConfig, LoraConfig, NewPolicyConfig, PolicyConfig, RunPlan,
};
use crate::data::{Dataset, Replay};
use crate::failure::{OrInput, tell};
use crate::metrics::{self, Recorder};
use crate::rng::{self, Purpose};

/// The config of a new policy, normalised by its data.
pub fn new_policy(new: &NewPolicyConfig, dataset: &Dataset) -> HfConfig {
    let (mean, deviation) = dataset.observation_moments();
    let (act_dim, action_kind, low, high) = match &dataset.action {
        ActionSpace::Discrete { n } => (*n, ActionKind::Discrete, None, None),
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
        max_return_to_go: dataset.max_return_to_go(),
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

/// Adapters as the config wants them at the start; nothing in full fine-tuning.
pub fn initialise_adapters(
    plan: &RunPlan,
    policy: &DecisionTransformer,
    conditioning: &Conditioning,
    offline: &Replay,
    recorder: &mut Recorder,
) -> anyhow::Result<Option<(AdapterFolder, AdapterSet)>> {
    let base = match &plan.policy {
        PolicyConfig::Pretrained { path, .. } => path.display().to_string(),
        PolicyConfig::New(_) => String::new(),
    };
    let folder = |lora: &LoraConfig, origin| AdapterFolder {
        base: base.clone(),
        fingerprint: Some(fingerprint(policy.weights())),
        rank: lora.rank.get(),
        scaling: scaling(lora),
        origin,
    };
    match &plan.adapter {
        AdapterConfig::FullFineTuning {} => Ok(None),
        AdapterConfig::Lora(lora) => {
            rng::seed_torch(plan.seed, Purpose::Weights, 1);
            let mut adapters = AdapterSet { dropout: lora.dropout, ..AdapterSet::default() };
            for site in policy.sites() {
                let (input, output) = policy.site_shape(site).expect("a site of this policy");
                let adapter = adapter::lora(input, output, lora.rank, scaling(lora), policy.device());
                adapters.sites.insert(site, adapter);
            }
            Ok(Some((folder(lora, Origin::Lora), dora(lora, policy, adapters))))
        }
        AdapterConfig::Eva(eva) => {
            let EvaConfig { lora, rho, tau, max_batches } = eva;
            let begun = Instant::now();
            let settings = Settings { rank: lora.rank, scaling: scaling(lora), rho: *rho, tau: *tau };
            let mut search = Eva::new(policy, &policy.sites(), settings);
            let mut settled = 0.0;
            while settled < 1.0 && search.batches() < *max_batches {
                let mut windows_rng = rng::generator(plan.seed, Purpose::EvaWindows, search.batches());
                let windows =
                    offline.sample(plan.optimiser.batch_size, conditioning.context_length, &mut windows_rng);
                settled = search.observe(policy, &conditioning.inputs(&windows.view())).or_input()?;
                recorder.scalar(metrics::EVA_SETTLED, search.batches(), settled)?;
            }
            let batches = search.batches();
            let (adapters, reports) = search.finish(policy, lora.dropout);
            recorder.sites(&reports)?;
            tell(&format!(
                "EVA: {} sites, {:.0}% settled after {batches} batches, {:.1} s",
                reports.len(),
                100.0 * settled,
                begun.elapsed().as_secs_f64()
            ));
            let origin = Origin::Eva { rho: *rho, tau: *tau };
            Ok(Some((folder(lora, origin), dora(lora, policy, adapters))))
        }
    }
}

fn scaling(lora: &LoraConfig) -> Scaling {
    Scaling { alpha: lora.alpha, rank_stabilised: lora.rslora }
}

/// The adapters with DoRA's magnitude, where the config wants it.
fn dora(lora: &LoraConfig, policy: &DecisionTransformer, mut adapters: AdapterSet) -> AdapterSet {
    if lora.dora {
        policy.start_dora(&mut adapters);
    }
    adapters
}

/// Adapters as a checkpoint has them; nothing in full fine-tuning.
pub fn restore_adapters(
    plan: &RunPlan,
    policy: &DecisionTransformer,
    checkpoint: &Path,
) -> anyhow::Result<Option<(AdapterFolder, AdapterSet)>> {
    match &plan.adapter {
        AdapterConfig::FullFineTuning {} => Ok(None),
        AdapterConfig::Lora(_) | AdapterConfig::Eva(_) => {
            agent::read_adapter(&checkpoint.join("adapter"), policy).map(Some)
        }
    }
}
