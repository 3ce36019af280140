//! EVA over a policy: batches of the task's data, and which of their tokens count.

use tch::Device;

use super::counted::{Chosen, Counted};
use super::eva::{Components, Eva, EvaError, EvaOptions, EvaResult, Progress, SharedInput};
use super::method::{AdapterMethod, InitError, Initialised, TaskData, WithDefaults};
use crate::adapter::site::{ModuleName, Site};
use crate::adapter::{self, AdapterSet, LoraOptions, OptionChecks, Origin, RunSize};
use crate::model::{ForwardContext, Inputs, Tap, TransformerPolicy};

impl WithDefaults for EvaOptions {
    fn with_defaults(lora: LoraOptions, _: usize) -> Self {
        let options = Self::new(lora.rank);
        Self { lora, tau: Some(options.tau()), ..options }
    }
}

impl AdapterMethod for EvaOptions {
    fn name(&self) -> String {
        let name = match self.components {
            Components::Leading => "EVA",
            Components::Rotated => "EVA-rot",
            Components::Permuted => "EVA-perm",
            Components::Minor => "EVA-minor",
            Components::Random => "LoRA with EVA's ranks",
        };
        name.to_owned()
    }

    fn lora(&self) -> Option<&LoraOptions> {
        Some(&self.lora)
    }

    fn check(&self, run: RunSize, checks: &mut OptionChecks) {
        EvaOptions::check(self, run, checks);
    }

    fn origin(&self) -> Origin {
        EvaOptions::origin(self)
    }

    fn initialise(
        &self,
        policy: &TransformerPolicy,
        sites: &[Site],
        data: &mut dyn TaskData,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Initialised, InitError> {
        let result = search(self, policy, sites, data, progress)?;
        let adapters = Some(adapters(&result, sites, self.lora.scale()));
        Ok(Initialised { adapters, eva: Some(result) })
    }
}

/// Observes batches of windows until the components have converged: every window once in a random order, before any
/// comes again in another.
fn search(
    options: &EvaOptions,
    policy: &TransformerPolicy,
    sites: &[Site],
    data: &mut dyn TaskData,
    progress: &mut dyn FnMut(Progress),
) -> Result<EvaResult<ModuleName>, InitError> {
    let per_pass = data.batches_per_pass();
    let mut eva =
        Eva::new(shared_inputs(sites), options.clone(), Some(per_pass), policy.device()).over(data.ranks());
    let mut done = false;
    while !done && eva.batches() < options.max_batches {
        if data.is_interrupted() {
            return Err(InitError::Interrupted);
        }
        let inputs = data.batch_of_pass(eva.batches() / per_pass, eva.batches() % per_pass);
        let now = observe_policy(&mut eva, policy, sites, &inputs)?;
        done = now.done;
        progress(now);
    }
    Ok(eva.finish()?)
}

/// The inputs of `sites`: those of one input group are observed once.
pub fn shared_inputs(sites: &[Site]) -> Vec<SharedInput<ModuleName>> {
    let mut groups: Vec<usize> = Vec::new();
    let mut inputs: Vec<SharedInput<ModuleName>> = Vec::new();
    for site in sites {
        match groups.iter().position(|group| *group == site.input_group) {
            Some(known) => inputs[known].sites.push(site.module.clone()),
            None => {
                groups.push(site.input_group);
                let (sites, width) = (vec![site.module.clone()], site.input);
                inputs.push(SharedInput { sites, width, of_patches: site.kernel.is_some() });
            }
        }
    }
    inputs
}

/// Shows EVA one batch of windows, or this rank's part of it, of which its options say what counts at `sites`.
pub fn observe_policy(
    eva: &mut Eva<ModuleName>,
    policy: &TransformerPolicy,
    sites: &[Site],
    inputs: &Inputs,
) -> Result<Progress, EvaError> {
    let windows = inputs.mask.size()[0];
    let tokens = eva.options().tokens.clone();
    let chosen = Chosen { sites, tokens: &tokens, patches: eva.options().patches };
    // Places of patches are drawn anew for every batch and half, whatever the threads.
    let seed = 2 * eva.batches() as u64;
    let show = |policy: &TransformerPolicy, inputs: &Inputs, seed: u64, tap: &mut dyn Tap| {
        let mut counted = Counted::new(tap, chosen, policy, inputs, seed);
        tch::no_grad(|| policy.collect_inputs(&mut ForwardContext::bare().observed_by(&mut counted), inputs));
    };
    let splits = eva.shows_parts() || windows >= 2 && policy.device() == Device::Cpu;
    if !eva.can_split() || !splits {
        return eva.observe(|tap| show(policy, inputs, seed, tap));
    }
    // The halves are the whole batch's, whatever the ranks.
    let half = |start: i64, count: i64| {
        let part = eva.part(count as usize);
        (!part.is_empty()).then(|| inputs.narrow(start + part.start as i64, part.len() as i64))
    };
    let (first, second) = (half(0, windows / 2), half(windows / 2, windows - windows / 2));
    let other = policy.clone_for_thread();
    eva.observe_halves(
        first.map(|first| move |tap: &mut dyn Tap| show(policy, &first, seed, tap)),
        second.map(|second| move |tap: &mut dyn Tap| show(&other, &second, seed + 1, tap)),
    )
}

/// Adapters whose A holds the components found, all at one `scale`, with B zero.
pub fn adapters(result: &EvaResult<ModuleName>, sites: &[Site], scale: f64) -> AdapterSet {
    let mut adapters = AdapterSet::default();
    for (module, down) in &result.components {
        let site = sites.iter().find(|site| site.module == *module).expect("EVA was given this site");
        adapters.sites.insert(module.clone(), adapter::from_down(down.copy(), site.output, scale));
    }
    adapters
}
