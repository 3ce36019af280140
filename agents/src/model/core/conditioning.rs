//! Between the environment's numbers and the policy's: normalised states or images, scaled returns, unit actions.

use tch::{Device, Kind, Tensor};

use super::config::{ActionKind, PolicyConfig};
use super::grid::GridReader;
use super::inputs::{Inputs, Previous};
use super::texts::TextReading;
use super::tokens::Token;
use super::vocabulary::Vocabulary;

/// A window of steps as the environment knows them, in rows; `batch` windows of `steps` steps.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// B.
    pub batch: usize,
    /// T.
    pub steps: usize,
    /// `[B·T, S]`.
    pub states: &'a [f32],
    /// `[B·T, C·H·W]`, what each step's state shows in images; empty where it shows none.
    pub pixels: &'a [u8],
    /// `[B·T, A]`, or `[B·T, 1]` indices where actions are discrete.
    pub actions: &'a [f32],
    /// `[B·T]`, what each step's action earned, in the environment's units.
    pub rewards: &'a [f32],
    /// What came before each step, there where the policy reads it.
    pub previous: Option<PreviousRows<'a>>,
    /// `[B·T]`, in the environment's units.
    pub returns_to_go: &'a [f32],
    /// `[B·T]`.
    pub timesteps: &'a [i64],
    /// `[B·T]`, true where a step is real.
    pub mask: &'a [bool],
}

/// The actions and rewards that led to a window's steps; of an episode's first step, any numbers.
#[derive(Clone, Copy, Debug)]
pub struct PreviousRows<'a> {
    /// `[B·T, A]`.
    pub actions: &'a [f32],
    /// `[B·T]`, in the environment's units.
    pub rewards: &'a [f32],
}

/// How a policy reads its environment; complete, unlike the optional keys it is made from.
#[derive(Debug)]
pub struct Conditioning {
    /// T: steps that the policy looks back on.
    pub context_length: usize,
    /// The target return, in the environment's units: the policy's own, until a run's config says another; 0 where the
    /// policy is told none.
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
    /// Whether it is told a return-to-go.
    pub reads_returns: bool,
    /// Whether it reads what came before a step.
    pub reads_previous: bool,
    /// Whether its context goes on over episodes.
    pub spans_episodes: bool,
    /// Whether windows for acting are as long as the context from the first step on, padded.
    pub pads_windows: bool,
    /// Whether a return-to-go stays where a reward would raise it above the target.
    pub returns_never_rise: bool,
    reads_rewards: bool,
    act_dim: i64,
    max_timestep: i64,
    device: Device,
    states: StateReader,
    action_middle: Tensor,
    action_half_range: Tensor,
}

/// How a policy's encoders are given states.
#[derive(Debug)]
struct StateReader {
    /// What numbers are scaled by, to mean 0 and deviation 1: `[S]` each.
    mean: Tensor,
    std: Tensor,
    /// Numbers and characters of a state's row.
    row_width: usize,
    /// Where the row holds a text.
    text: Option<Vocabulary>,
    /// `[C, H, W]`.
    image: Option<[i64; 3]>,
    /// There where all of it is read as ids, image included.
    grid: Option<GridReader>,
}

impl StateReader {
    fn of(config: &PolicyConfig, device: Device) -> Self {
        let row_width = config.row_width() as usize;
        // Of the row's columns, those that hold numbers.
        let numbers = |values: &Option<Vec<f32>>, usual: f32| {
            let mut values = values.clone().unwrap_or_else(|| vec![usual; row_width]);
            if let Some(text) = &config.text {
                values.drain(text.columns.clone());
            }
            Tensor::from_slice(&values).to_device(device)
        };
        Self {
            mean: numbers(&config.state_mean, 0.0),
            std: numbers(&config.state_std, 1.0),
            row_width,
            text: config.text.clone(),
            image: config.shown_image(),
            grid: config.grid.as_ref().map(GridReader::of),
        }
    }

    fn shallow_clone(&self) -> Self {
        let (mean, std) = (self.mean.shallow_clone(), self.std.shallow_clone());
        let grid = self.grid.as_ref().map(|reader| GridReader::of(reader.grid()));
        Self { mean, std, text: self.text.clone(), grid, ..*self }
    }

    /// The numbers of rows `[B, T, row]`: `[B, T, S]`.
    fn numbers(&self, rows: &Tensor) -> Tensor {
        match &self.text {
            None => rows.shallow_clone(),
            Some(text) => {
                let (start, end) = (text.columns.start as i64, text.columns.end as i64);
                let after = self.row_width as i64 - end;
                Tensor::cat(&[rows.narrow(2, 0, start), rows.narrow(2, end, after)], 2)
            }
        }
    }
}

/// Keys without which a policy cannot meet an environment.
#[derive(Debug, thiserror::Error)]
#[error(
    "it has no {}, which acting in an environment needs, neither in config.json nor in a file of statistics",
    .0.join(", ")
)]
pub struct MissingKeys(pub Vec<&'static str>);

impl Conditioning {
    /// Gathers the keys, which must all be there; actions default to [−1, 1].
    pub fn new(config: &PolicyConfig, device: Device) -> Result<Self, MissingKeys> {
        let missing = missing(config);
        let (true, Some(context_length), Some(return_scale)) =
            (missing.is_empty(), config.context_length, config.return_scale)
        else {
            return Err(MissingKeys(missing));
        };
        let list = |values: &[f32]| Tensor::from_slice(values).to_device(device);
        let ones = vec![1.0; config.act_dim as usize];
        let minus_ones = vec![-1.0; config.act_dim as usize];
        let low = list(config.action_low.as_deref().unwrap_or(&minus_ones));
        let high = list(config.action_high.as_deref().unwrap_or(&ones));
        Ok(Self {
            context_length: context_length as usize,
            target_return: config.target_return.unwrap_or(0.0),
            max_return_to_go: config.max_return_to_go,
            return_cap: None,
            return_scale,
            action_kind: config.action_kind,
            reads_returns: config.reads(Token::Return),
            reads_previous: config.reads_previous(),
            spans_episodes: config.spans_episodes(),
            pads_windows: config.has_action_vocabulary(),
            returns_never_rise: config.has_action_vocabulary(),
            reads_rewards: config.reads(Token::Reward),
            act_dim: config.act_dim,
            max_timestep: config.max_ep_len - 1,
            states: StateReader::of(config, device),
            device,
            action_middle: (&low + &high) / 2.0,
            action_half_range: (&high - &low) / 2.0,
        })
    }

    /// The same for another thread; the numbers are shared.
    pub fn shallow_clone(&self) -> Self {
        Self {
            states: self.states.shallow_clone(),
            action_middle: self.action_middle.shallow_clone(),
            action_half_range: self.action_half_range.shallow_clone(),
            ..*self
        }
    }

    /// What is still to be earned, as the policy is told it: at most the user's cap.
    pub fn capped(&self, return_to_go: f32) -> f32 {
        return_to_go.min(self.return_cap.unwrap_or(f32::INFINITY))
    }

    /// Numbers and characters of a state's row.
    pub fn row_width(&self) -> usize {
        self.states.row_width
    }

    /// C·H·W: bytes of a state's image; 0 where the policy reads none.
    pub fn pixels(&self) -> usize {
        self.image_shape().map_or(0, |shape| shape.iter().product::<i64>() as usize)
    }

    /// `[C, H, W]` of the states' images, where the policy reads such.
    pub fn image_shape(&self) -> Option<[i64; 3]> {
        self.states.image
    }

    /// Bytes of a state's image that are read as ids, and are no encoder's; 0 where there are none.
    pub fn symbols(&self) -> usize {
        if self.states.grid.is_some() { self.pixels() } else { 0 }
    }

    /// How the text of states is read, if it is.
    pub fn text_reading(&self) -> Option<TextReading<'_>> {
        TextReading::of(self.states.text.as_ref(), self.states.grid.as_ref().map(GridReader::grid))
    }

    /// The policy's inputs for a window: numbers to mean 0 and deviation 1, words by their numbers, images as they are,
    /// or all of these as ids, actions to [−1, 1] or one-hot, returns scaled, padding zero.
    pub fn inputs(&self, window: &Window) -> Inputs {
        let shape = self.image_shape().filter(|_| self.states.grid.is_none());
        let images = shape.map(|shape| {
            let shape = [&[window.batch as i64, window.steps as i64], shape.as_slice()].concat();
            Tensor::from_slice(window.pixels).to_device(self.device).view(&*shape) // [B, T, C, H, W]
        });
        self.inputs_of(window, images)
    }

    /// The same with `images` in place of the window's, as [`Inputs::images`] has them.
    pub fn inputs_of(&self, window: &Window, images: Option<Tensor>) -> Inputs {
        let (batch, steps) = (window.batch as i64, window.steps as i64);
        let device = self.device;
        let mask = Tensor::from_slice(window.mask).to_device(device).view([batch, steps]); // [B, T]
        let real = mask.unsqueeze(-1).to_kind(Kind::Float); // [B, T, 1]
        let width = self.states.row_width;
        let states = match &self.states.grid {
            Some(grid) => {
                let ids = grid.ids(window.states, window.pixels, window.mask);
                Tensor::from_slice(&ids).to_device(device).view([batch, steps, grid.width() as i64])
            }
            None => {
                let rows = Tensor::from_slice(window.states).to_device(device);
                let rows = rows.view([batch, steps, width as i64]);
                self.normalised(&self.states.numbers(&rows)) * &real
            }
        }; // [B, T, S]
        let words = self.states.text.as_ref().map(|text| {
            let rows = window.states.chunks(width);
            let numbers: Vec<i64> = rows.flat_map(|row| text.known_numbers(row)).collect();
            let words = Tensor::from_slice(&numbers).to_device(device);
            words.view([batch, steps, text.longest as i64]) * mask.unsqueeze(-1) // [B, T, L]
        });
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
        let previous = window.previous.map(|previous| {
            let actions = Tensor::from_slice(previous.actions).to_device(device).view([batch, steps, -1]);
            Previous {
                actions: (actions - &self.action_middle) / &self.action_half_range,
                rewards: scaled(previous.rewards),
            }
        });
        let timesteps = Tensor::from_slice(window.timesteps).to_device(device).clamp(0, self.max_timestep);
        Inputs {
            states,
            words,
            images,
            previous,
            actions,
            rewards: self.reads_rewards.then(|| scaled(window.rewards)),
            returns_to_go: scaled(window.returns_to_go),
            timesteps: timesteps.view([batch, steps]),
            mask,
        }
    }

    /// The numbers of states to mean 0 and deviation 1: `[…, S]` → `[…, S]`.
    pub fn normalised(&self, numbers: &Tensor) -> Tensor {
        (numbers - &self.states.mean) / &self.states.std
    }

    /// Actions of the environment from the policy's in [−1, 1]: `[…, A]` → `[…, A]`.
    pub fn to_environment(&self, actions: &Tensor) -> Tensor {
        actions * &self.action_half_range + &self.action_middle
    }
}

/// The keys that acting needs and the config lacks.
fn missing(config: &PolicyConfig) -> Vec<&'static str> {
    let unscaled = config.numbers() == 0 || config.raw_states;
    let needed = [
        ("context_length", config.context_length.is_some()),
        ("state_mean", unscaled || config.state_mean.is_some()),
        ("state_std", unscaled || config.state_std.is_some()),
        ("return_scale", config.return_scale.is_some()),
        ("target_return", !config.reads(Token::Return) || config.target_return.is_some()),
    ];
    needed.into_iter().filter(|(_, there)| !there).map(|(key, _)| key).collect()
}
