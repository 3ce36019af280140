//! A policy that acts: what it reads of every live episode, and how its actions are chosen.

use std::collections::BTreeMap;
use std::sync::Arc;

use eva_rl_agents::loss::StochasticHead;
use eva_rl_agents::model::heads::bins::Bins;
use eva_rl_agents::model::{
    Cache, Conditioning, EmbeddedImages, ForwardContext, Inputs, Policy, SlidingWindows, TorchScript,
    TransformerPolicy, cached_context_len, heads, resets_context,
};
use eva_rl_envs::ActionSpace;
use rand::Rng;
use rand_distr::StandardNormal;
use tch::Tensor;

use super::actor::{ActiveEpisode, Actor};
use super::histories::{Histories, Prompt};
use super::inference::Inference;
use super::selection::ActionSelection;
use super::window_builder::WindowBuilder;
use crate::support::errors::OrInput;

/// A policy that acts, with batched forwards over every live episode.
pub enum PolicyActor<'a> {
    /// A decision transformer of its own.
    Transformer(Box<TransformerActor>),
    /// A module of somebody else's code, which stays on its thread.
    Module(&'a TorchScript, Box<WindowBuilder>),
}

impl<'a> PolicyActor<'a> {
    /// Acts by `choice`, whose policy has its adapters merged, conditioned on `target_return`.
    pub fn new(
        choice: ActionSelection<'a>,
        conditioning: &Conditioning,
        target_return: f32,
        space: &ActionSpace,
        inference: Inference,
    ) -> Self {
        let windows_of =
            WindowBuilder { conditioning: conditioning.shallow_clone(), target_return, space: space.clone() };
        let (policy, head) = match choice {
            ActionSelection::Greedy(Policy::TorchScript(module)) => {
                return Self::Module(module, Box::new(windows_of));
            }
            ActionSelection::Greedy(Policy::Transformer(policy)) => (policy, None),
            ActionSelection::ByLogits(policy) => (policy, StochasticHead::of_logits(policy)),
            ActionSelection::Sampled(policy, head) => (policy, Some(head.clone_for_thread())),
        };
        Self::Transformer(Box::new(TransformerActor {
            inference: inference.of(policy.config()),
            policy: policy.clone_for_thread(),
            head,
            windows_of,
            cache: None,
            windows: None,
            images: None,
            histories: None,
            prompt: None,
        }))
    }

    /// The same with demonstrations before everything else, of a policy whose context goes on over episodes.
    pub fn after(mut self, prompt: Option<&Arc<Prompt>>) -> Self {
        if let Self::Transformer(actor) = &mut self {
            actor.prompt = prompt.cloned();
        }
        self
    }
}

impl Actor for PolicyActor<'_> {
    fn act(&mut self, live: &mut [ActiveEpisode], actions: &mut [f32]) -> anyhow::Result<()> {
        match self {
            Self::Transformer(actor) => actor.act(live, actions),
            Self::Module(module, windows_of) => {
                let inputs = windows_of.whole_windows(live);
                let chosen = tch::no_grad(|| module.act(&inputs)).or_input()?; // [B, A] or [B, 1]
                windows_of.write(&windows_of.in_environment(&chosen), live, actions);
                Ok(())
            }
        }
    }

    fn clone_for_thread(&self) -> Option<Box<dyn Actor + Send>> {
        match self {
            Self::Transformer(actor) => actor.clone_for_thread(),
            Self::Module(..) => None,
        }
    }
}

/// A decision transformer that acts.
pub struct TransformerActor {
    policy: TransformerPolicy,
    /// By which actions are sampled; they are greedy where absent.
    head: Option<StochasticHead>,
    pub windows_of: WindowBuilder,
    inference: Inference,
    /// A row per environment, once the first action was chosen by a cache.
    cache: Option<Cache>,
    /// The same for windows.
    windows: Option<SlidingWindows>,
    /// What the encoder has made of images, where the policy reads such.
    images: Option<EmbeddedImages>,
    /// What environments have shown, where the policy reads what came before a step.
    pub histories: Option<Histories>,
    /// What it sees before everything else.
    prompt: Option<Arc<Prompt>>,
}

impl TransformerActor {
    /// The action head's outputs for every live episode's latest state, `[B, A]` or `[B, A · bins]`, and what it read,
    /// `[B, D]`; the batch has `num_envs` environments.
    fn outputs(&mut self, live: &[ActiveEpisode], num_envs: usize) -> (Tensor, Tensor) {
        self.embed_images(live, num_envs);
        self.observe(live, num_envs);
        let encoded = match self.inference {
            Inference::Cached => self.encode_cached(live, num_envs),
            Inference::Reference if self.histories.is_some() => self.encode_rolling(live, num_envs),
            Inference::Window | Inference::Reference => self.encode_windows(live, num_envs),
        };
        (self.policy.action_head(&mut ForwardContext::bare(), &encoded), encoded)
    }

    /// Acts, and gives the action head's outputs for every live episode: `[B, A]` or `[B, A · bins]`.
    pub fn act_and_tell(
        &mut self,
        live: &mut [ActiveEpisode],
        actions: &mut [f32],
    ) -> anyhow::Result<Tensor> {
        self.windows_of.check_texts(live)?;
        let _guard = tch::no_grad_guard();
        let num_envs = actions.len() / self.windows_of.space.width();
        let (outputs, chosen) = match self.policy.acts_by_dimension() {
            true => self.by_dimension(live, num_envs),
            false => {
                let (outputs, encoded) = self.outputs(live, num_envs);
                let chosen = match &self.head {
                    None => heads::mode(self.policy.config(), &outputs),
                    Some(head) => draw(head, &outputs, &encoded, live),
                };
                (outputs, chosen)
            }
        }; // chosen: [B, A] in [−1, 1] or of raw numbers, or [B, 1] indices
        let chosen = self.windows_of.in_environment(&chosen);
        if let Some(histories) = &mut self.histories {
            histories.keep_chosen(live, &chosen);
        }
        self.windows_of.write(&chosen, live, actions);
        Ok(outputs)
    }

    /// The head's outputs and the actions of every live episode, one dimension after another: `[B, A · bins]`, `[B, A]`.
    fn by_dimension(&mut self, live: &mut [ActiveEpisode], num_envs: usize) -> (Tensor, Tensor) {
        self.embed_images(live, num_envs);
        let steps = self.windows_of.longest(live);
        let all: Vec<&ActiveEpisode> = live.iter().collect();
        let inputs = self.inputs(&all, steps);
        let bins = Bins::of(self.policy.config());
        let (chosen, outputs) = self.policy.act_by_dimension(inputs, &mut |_, logits| match &self.head {
            None => bins.mode(logits).unsqueeze(-1),
            Some(head) => draw(head, logits, logits, live), // the logits alone say how actions are spread
        });
        (outputs, chosen)
    }

    /// What the policy makes of every live episode's latest state, in the window of its last steps: `[B, D]`.
    fn encode_windows(&mut self, live: &[ActiveEpisode], num_envs: usize) -> Tensor {
        let longest = self.windows_of.conditioning.context_length;
        if self.windows.is_none() {
            self.windows = SlidingWindows::new(&self.policy, num_envs, longest);
        }
        let all: Vec<&ActiveEpisode> = live.iter().collect();
        let seen = live.iter().map(|episode| self.seen(episode)).max().unwrap_or(0);
        let steps = if self.windows.is_some() { 2 } else { self.windows_of.steps_of(seen) };
        let inputs = self.inputs(&all, steps);
        let rows: Vec<usize> = live.iter().map(|episode| episode.env).collect();
        match &mut self.windows {
            Some(windows) => self.policy.slide(windows, &rows, &inputs),
            None => self.policy.encode_for_acting(&inputs),
        }
    }

    /// What the policy makes of every live episode's latest state, by contexts that roll: `[B, D]`.
    fn encode_rolling(&mut self, live: &[ActiveEpisode], num_envs: usize) -> Tensor {
        let longest = self.windows_of.conditioning.context_length;
        let all: Vec<&ActiveEpisode> = live.iter().collect();
        let seen: Vec<usize> = live.iter().map(|episode| self.seen(episode)).collect();
        // The first time, all that was shown before; later, each step as it is shown. A step more, for what was before.
        let most = seen.iter().copied().max().unwrap_or(1).min(longest);
        let steps = if self.cache.is_some() { 2 } else { most + 1 };
        let mut cache = self.cache.take().or_else(|| self.policy.rolling_cache(num_envs, longest));
        let rolling = cache.as_mut().expect("the family's reference has rolling contexts");
        let rows: Vec<usize> = live.iter().map(|episode| episode.env).collect();
        let encoded = self.policy.roll(rolling, &rows, &seen, &self.inputs(&all, steps));
        self.cache = cache;
        encoded
    }

    /// Takes in what every live episode shows, where the policy reads what came before a step.
    fn observe(&mut self, live: &[ActiveEpisode], num_envs: usize) {
        let WindowBuilder { conditioning, space, .. } = &self.windows_of;
        if !conditioning.reads_previous {
            return;
        }
        let new = || {
            let histories = Histories::new(num_envs, conditioning, space);
            match &self.prompt {
                None => histories,
                Some(prompt) => histories.after(prompt),
            }
        };
        let histories = self.histories.get_or_insert_with(new);
        histories.observe(live);
    }

    /// Tokens that the rolling context of an environment holds.
    pub fn held(&self, env: usize) -> i64 {
        self.cache.as_ref().map_or(0, |cache| cache.held(env))
    }

    /// Steps that the policy may look back on in this episode's environment, those included that no window holds.
    fn seen(&self, episode: &ActiveEpisode) -> usize {
        match &self.histories {
            Some(histories) => histories.seen(episode.env),
            None => episode.earned.len(),
        }
    }

    /// Embeds the latest image of every live episode, where the policy reads images.
    fn embed_images(&mut self, live: &[ActiveEpisode], num_envs: usize) {
        if self.images.is_none() {
            let longest = self.windows_of.conditioning.context_length;
            self.images = EmbeddedImages::new(&self.policy, num_envs, longest.max(2));
        }
        let Some(images) = &mut self.images else { return };
        let rows: Vec<usize> = live.iter().map(|episode| episode.env).collect();
        let seen: Vec<usize> = live.iter().map(|episode| episode.earned.len()).collect();
        images.push(&self.policy, &rows, &seen, &self.windows_of.latest_images(live));
    }

    /// The last `steps` steps of these episodes.
    fn inputs(&self, episodes: &[&ActiveEpisode], steps: usize) -> Inputs {
        if let Some(histories) = &self.histories {
            let envs: Vec<usize> = episodes.iter().map(|episode| episode.env).collect();
            let seen: Vec<usize> = envs.iter().map(|env| histories.seen(*env)).collect();
            let images = self.images.as_ref().map(|images| images.windows(&envs, &seen, steps));
            return self.windows_of.conditioning.inputs_of(&histories.windows(&envs, steps).view(), images);
        }
        let (count, episodes_of) = (episodes.len(), episodes.iter().copied());
        let Some(images) = &self.images else { return self.windows_of.inputs(episodes_of, count, steps) };
        let rows: Vec<usize> = episodes.iter().map(|episode| episode.env).collect();
        let seen: Vec<usize> = episodes.iter().map(|episode| episode.earned.len()).collect();
        self.windows_of.inputs_of(episodes_of, count, steps, images.windows(&rows, &seen, steps))
    }

    /// What the policy makes of every live episode's latest state, by way of the cache: `[B, D]`.
    fn encode_cached(&mut self, live: &[ActiveEpisode], num_envs: usize) -> Tensor {
        let longest = self.windows_of.conditioning.context_length;
        let mut cache = self.cache.take().unwrap_or_else(|| self.policy.cache(num_envs, longest));
        let (mut growing, mut beginning) = (Vec::new(), BTreeMap::<usize, Vec<usize>>::new());
        for (index, episode) in live.iter().enumerate() {
            let seen = self.seen(episode);
            match resets_context(seen, longest) {
                true => beginning.entry(cached_context_len(seen, longest)).or_default().push(index),
                false => growing.push(index),
            }
        }
        let of = |members: &[usize]| members.iter().map(|index| &live[*index]).collect::<Vec<_>>();
        let rows = |members: &[usize]| members.iter().map(|index| live[*index].env).collect::<Vec<_>>();
        let (mut encoded, mut order) = (Vec::new(), Vec::with_capacity(live.len()));
        if !growing.is_empty() {
            let inputs = self.inputs(&of(&growing), 2);
            encoded.push(self.policy.decode_step(&mut cache, &rows(&growing), &inputs)); // [R, D]
            order.extend(growing);
        }
        for (steps, members) in beginning {
            let inputs = self.inputs(&of(&members), steps);
            encoded.push(self.policy.prefill(&mut cache, &rows(&members), &inputs)); // [R, D]
            order.extend(members);
        }
        self.cache = Some(cache);
        if encoded.len() == 1 {
            return encoded.remove(0);
        }
        let mut places = vec![0; live.len()];
        for (place, index) in order.into_iter().enumerate() {
            places[index] = place as i64;
        }
        let encoded = Tensor::cat(&encoded, 0);
        encoded.index_select(0, &Tensor::from_slice(&places).to_device(encoded.device()))
    }
}

impl Actor for TransformerActor {
    fn act(&mut self, live: &mut [ActiveEpisode], actions: &mut [f32]) -> anyhow::Result<()> {
        self.act_and_tell(live, actions).map(drop)
    }

    fn clone_for_thread(&self) -> Option<Box<dyn Actor + Send>> {
        Some(Box::new(Self {
            policy: self.policy.clone_for_thread(),
            head: self.head.as_ref().map(StochasticHead::clone_for_thread),
            windows_of: self.windows_of.shallow_clone(),
            inference: self.inference,
            cache: None,
            windows: None,
            images: None,
            histories: None,
            prompt: self.prompt.clone(),
        }))
    }
}

/// One action a live episode, by the episode's own noise: head outputs `[B, A]` or `[B, A · bins]` and
/// encodings `[B, D]` → `[B, A]` in [−1, 1], or `[B, 1]` indices.
fn draw(head: &StochasticHead, outputs: &Tensor, encoded: &Tensor, live: &mut [ActiveEpisode]) -> Tensor {
    let numbers = outputs.numel() / live.len();
    let mut noise = Vec::with_capacity(outputs.numel());
    for episode in live {
        for _ in 0..numbers {
            noise.push(match head.wants_normal_noise() {
                true => episode.noise.sample(StandardNormal),
                false => episode.noise.r#gen::<f32>(),
            });
        }
    }
    let noise = Tensor::from_slice(&noise).view_as(outputs).to_device(outputs.device());
    head.sample(outputs, encoded, &noise)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use eva_rl_agents::model::{ActionKind, Given, PolicyConfig};
    use eva_rl_agents::ranks::OneRank;
    use eva_rl_envs::{BridgeSettings, Kwargs, make_halves};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use tch::Device;

    use super::*;
    use crate::data::Trajectory;
    use crate::rollout::{self, Actions};

    /// Draws the weight matrices of `policy` again, the same ones each time: torch's own generator is shared with the
    /// tests that run side by side.
    fn fill_matrices(policy: &TransformerPolicy) {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for weight in policy.weights().values().filter(|weight| weight.dim() > 1) {
            let numbers: Vec<f32> =
                (0..weight.numel()).map(|_| 0.4 * rng.sample::<f32, _>(StandardNormal)).collect();
            tch::no_grad(|| weight.shallow_clone().copy_(&Tensor::from_slice(&numbers).view_as(weight)));
        }
    }

    #[derive(Clone, Copy)]
    enum How {
        Greedy,
        Head,
        Logits,
    }

    /// What a policy of random weights, which looks back on `context_length` steps, does in some CartPoles.
    fn played(num_envs: usize, context_length: i64, inference: Inference, how: How) -> Vec<Trajectory> {
        tch::set_num_threads(1); // tests run side by side
        let config = PolicyConfig {
            state_dim: 4,
            act_dim: 2,
            hidden_size: 16,
            n_head: 2,
            action_tanh: false,
            action_kind: ActionKind::Discrete,
            context_length: Some(context_length),
            state_mean: Some(vec![0.0; 4]),
            state_std: Some(vec![0.2; 4]),
            return_scale: Some(50.0),
            target_return: Some(100.0),
            ..PolicyConfig::default()
        };
        let conditioning = Conditioning::new(&config, Device::Cpu).unwrap();
        let policy = TransformerPolicy::new(config, Device::Cpu);
        fill_matrices(&policy);
        let head = StochasticHead::new(&policy, 0.3, 0.1);
        let policy = Policy::Transformer(policy);
        let choice = match (&policy, how) {
            (Policy::Transformer(policy), How::Head) => ActionSelection::Sampled(policy, &head),
            (_, How::Logits) => Actions::Sampled.of(&policy).unwrap(),
            _ => Actions::Greedy.of(&policy).unwrap(),
        };
        let settings = BridgeSettings::default();
        let mut env = make_halves("CartPole-v1", &Kwargs::new(), num_envs, &settings).unwrap();
        let space = env.spec().action.clone();
        let mut actor = PolicyActor::new(choice, &conditioning, 100.0, &space, inference);
        rollout::play(env.as_mut(), &mut actor, 13, 7, &OneRank).unwrap().episodes
    }

    /// Acts by windows, and asks a cache too what it would do.
    struct Both<'a> {
        window: PolicyActor<'a>,
        cached: PolicyActor<'a>,
        context_length: usize,
        action_width: usize,
        /// How far the two are apart in every action number: in contexts that are not full, and in later ones.
        apart: [Vec<f32>; 2],
    }

    impl Actor for Both<'_> {
        fn act(&mut self, live: &mut [ActiveEpisode], actions: &mut [f32]) -> anyhow::Result<()> {
            let mut others = actions.to_vec();
            self.cached.act(live, &mut others)?;
            self.window.act(live, actions)?;
            let width = self.action_width;
            for episode in live {
                let full = usize::from(episode.earned.len() > self.context_length);
                let row = episode.env * width..(episode.env + 1) * width;
                let pairs = actions[row.clone()].iter().zip(&others[row]);
                self.apart[full].extend(pairs.map(|(one, other)| (one - other).abs()));
            }
            Ok(())
        }

        fn clone_for_thread(&self) -> Option<Box<dyn Actor + Send>> {
            None
        }
    }

    /// How far windows and a cache are apart in the episodes that a shipped policy plays by windows: at most while
    /// no context is full, and on average later.
    fn apart(policy: &str, env: &str) -> (f32, f32) {
        tch::set_num_threads(1); // tests run side by side
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(policy);
        let policy = Policy::read(&folder, Given::default(), Device::Cpu).unwrap();
        let conditioning = Conditioning::new(policy.config(), Device::Cpu).unwrap();
        let mut env = make_halves(env, &Kwargs::new(), 10, &BridgeSettings::default()).unwrap();
        let (space, target) = (env.spec().action.clone(), conditioning.target_return);
        let actor = |inference| {
            PolicyActor::new(ActionSelection::Greedy(&policy), &conditioning, target, &space, inference)
        };
        let (window, cached) = (actor(Inference::Window), actor(Inference::Cached));
        let context_length = conditioning.context_length;
        let (action_width, apart) = (space.width(), [Vec::new(), Vec::new()]);
        let mut both = Both { window, cached, context_length, action_width, apart };
        rollout::play(env.as_mut(), &mut both, 10, 5, &OneRank).unwrap();
        let [early, late] = both.apart;
        (early.into_iter().reduce(f32::max).unwrap(), late.iter().sum::<f32>() / late.len() as f32)
    }

    #[test]
    fn a_cache_is_the_policy_of_windows_until_a_context_is_full_and_another_one_then() {
        for (policy, env, least) in [
            ("pendulum", "Pendulum-v1", 0.02),
            ("mountain-car-medium", "MountainCarContinuous-v0", 0.01),
            ("hopper-medium", "Hopper-v5", 0.002),
        ] {
            let (early, late) = apart(policy, env);
            assert!(early < 1e-4, "{policy}: {early} before a context is full");
            assert!(late > least, "{policy}: {late} on average once contexts are full");
        }
    }

    #[test]
    fn a_cache_and_whole_windows_act_alike_while_no_episode_outgrows_its_context() {
        for how in [How::Greedy, How::Head] {
            let [cached, window] =
                [Inference::Cached, Inference::Window].map(|inference| played(4, 300, inference, how));
            let lengths: Vec<usize> = cached.iter().map(Trajectory::len).collect();
            assert!(lengths.iter().all(|length| *length < 300), "{lengths:?}");
            assert!(lengths.iter().any(|length| *length != lengths[0]), "{lengths:?}");
            assert_eq!(cached, window);
        }
    }

    #[test]
    fn sampled_actions_are_those_of_the_distribution_that_online_dt_trains() {
        let [greedy, head, logits] =
            [How::Greedy, How::Head, How::Logits].map(|how| played(4, 5, Inference::Window, how));
        assert_eq!(head, logits);
        assert_ne!(greedy, logits);
    }

    #[test]
    fn an_episode_does_not_depend_on_its_neighbours() {
        for inference in [Inference::Cached, Inference::Window] {
            for context_length in [1, 2, 5] {
                let alone = played(1, context_length, inference, How::Head);
                assert!(alone.iter().any(|episode| episode.len() > 2 * context_length as usize));
                assert_eq!(played(4, context_length, inference, How::Head), alone);
            }
        }
    }
}
