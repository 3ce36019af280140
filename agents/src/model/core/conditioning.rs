//! Between the environment's numbers and the policy's: normalised states, scaled returns, unit actions.

use tch::{Device, Kind, Tensor};

use super::config::{ActionKind, PolicyConfig};
use super::inputs::Inputs;
use super::tokens::Token;

/// A window of steps as the environment knows them, in rows; `batch` windows of `steps` steps.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// B.
    pub batch: usize,
    /// T.
    pub steps: usize,
    /// `[B·T, S]`.
    pub states: &'a [f32],
    /// `[B·T, A]`, or `[B·T, 1]` indices where actions are discrete.
    pub actions: &'a [f32],
    /// `[B·T]`, what each step's action earned, in the environment's units.
    pub rewards: &'a [f32],
    /// `[B·T]`, in the environment's units.
    pub returns_to_go: &'a [f32],
    /// `[B·T]`.
    pub timesteps: &'a [i64],
    /// `[B·T]`, true where a step is real.
    pub mask: &'a [bool],
}

/// How a policy reads its environment; complete, unlike the optional keys it is made from.
#[derive(Debug)]
pub struct Conditioning {
    /// T: steps that the policy looks back on.
    pub context_length: usize,
    /// The target return, in the environment's units: the policy's own, until a run's config says another.
    pub target_return: f32,
    /// The greatest return-to-go of the data that the policy was trained on, if its files say; what it earns
    /// online may raise it. It limits nothing.
    pub max_return_to_go: Option<f32>,
    /// The greatest return-to-go that the policy is conditioned on at any step, where the user wants a limit.
    ///
    /// A return-to-go is the target less what was earned, so where rewards are negative it may grow past all that
    /// the policy has seen.
    pub return_cap: Option<f32>,
    /// What returns are divided by.
    pub return_scale: f32,
    /// What an action is.
    pub action_kind: ActionKind,
    reads_rewards: bool,
    act_dim: i64,
    max_timestep: i64,
    state_mean: Tensor,
    state_std: Tensor,
    action_middle: Tensor,
    action_half_range: Tensor,
}

/// Keys without which a policy cannot meet an environment.
#[derive(Debug, thiserror::Error)]
#[error(
    "it has no {}, which acting in an environment needs, neither in config.json nor in a file of statistics",
    .0.join(", ")
)]
pub struct MissingKeys(pub Vec<&'static str>);

impl Conditioning {
    /// Gathers the keys; each of the five must be there, actions default to [−1, 1].
    pub fn new(config: &PolicyConfig, device: Device) -> Result<Self, MissingKeys> {
        let (
            Some(context_length),
            Some(state_mean),
            Some(state_std),
            Some(return_scale),
            Some(target_return),
        ) = (
            config.context_length,
            &config.state_mean,
            &config.state_std,
            config.return_scale,
            config.target_return,
        )
        else {
            return Err(MissingKeys(missing(config)));
        };
        let list = |values: &[f32]| Tensor::from_slice(values).to_device(device);
        let ones = vec![1.0; config.act_dim as usize];
        let minus_ones = vec![-1.0; config.act_dim as usize];
        let low = list(config.action_low.as_deref().unwrap_or(&minus_ones));
        let high = list(config.action_high.as_deref().unwrap_or(&ones));
        Ok(Self {
            context_length: context_length as usize,
            target_return,
            max_return_to_go: config.max_return_to_go,
            return_cap: None,
            return_scale,
            action_kind: config.action_kind,
            reads_rewards: config.reads(Token::Reward),
            act_dim: config.act_dim,
            max_timestep: config.max_ep_len - 1,
            state_mean: list(state_mean),
            state_std: list(state_std),
            action_middle: (&low + &high) / 2.0,
            action_half_range: (&high - &low) / 2.0,
        })
    }

    /// The same for another thread; the numbers are shared.
    pub fn shallow_clone(&self) -> Self {
        Self {
            state_mean: self.state_mean.shallow_clone(),
            state_std: self.state_std.shallow_clone(),
            action_middle: self.action_middle.shallow_clone(),
            action_half_range: self.action_half_range.shallow_clone(),
            ..*self
        }
    }

    /// What is still to be earned, as the policy is told it: at most the user's cap.
    pub fn capped(&self, return_to_go: f32) -> f32 {
        return_to_go.min(self.return_cap.unwrap_or(f32::INFINITY))
    }

    /// S: width of a state.
    pub fn state_width(&self) -> usize {
        self.state_mean.numel()
    }

    /// The policy's inputs for a window: states to mean 0 and deviation 1, actions to [−1, 1] or
    /// one-hot, returns scaled, padding zero.
    pub fn inputs(&self, window: &Window) -> Inputs {
        let (batch, steps) = (window.batch as i64, window.steps as i64);
        let device = self.state_mean.device();
        let mask = Tensor::from_slice(window.mask).to_device(device).view([batch, steps]); // [B, T]
        let real = mask.unsqueeze(-1).to_kind(Kind::Float); // [B, T, 1]
        let states = Tensor::from_slice(window.states).to_device(device).view([batch, steps, -1]); // [B, T, S]
        let states = (states - &self.state_mean) / &self.state_std * &real;
        let actions = Tensor::from_slice(window.actions).to_device(device).view([batch, steps, -1]);
        let actions = match self.action_kind {
            ActionKind::Continuous | ActionKind::Binned => {
                (actions - &self.action_middle) / &self.action_half_range * &real
            } // [B, T, A]
            ActionKind::Discrete => {
                let indices = actions.squeeze_dim(-1).to_kind(Kind::Int64); // [B, T]
                indices.one_hot(self.act_dim).to_kind(Kind::Float) * &real // [B, T, A]
            }
        };
        let scaled = |numbers: &[f32]| {
            let numbers = Tensor::from_slice(numbers).to_device(device) / f64::from(self.return_scale);
            numbers.view([batch, steps, 1])
        };
        let timesteps = Tensor::from_slice(window.timesteps).to_device(device).clamp(0, self.max_timestep);
        Inputs {
            states,
            actions,
            rewards: self.reads_rewards.then(|| scaled(window.rewards)),
            returns_to_go: scaled(window.returns_to_go),
            timesteps: timesteps.view([batch, steps]),
            mask,
        }
    }

    /// Actions of the environment from the policy's in [−1, 1]: `[…, A]` → `[…, A]`.
    pub fn to_environment(&self, actions: &Tensor) -> Tensor {
        actions * &self.action_half_range + &self.action_middle
    }
}

/// The keys that acting needs and the config lacks.
fn missing(config: &PolicyConfig) -> Vec<&'static str> {
    let needed = [
        ("context_length", config.context_length.is_some()),
        ("state_mean", config.state_mean.is_some()),
        ("state_std", config.state_std.is_some()),
        ("return_scale", config.return_scale.is_some()),
        ("target_return", config.target_return.is_some()),
    ];
    needed.into_iter().filter(|(_, there)| !there).map(|(key, _)| key).collect()
}
