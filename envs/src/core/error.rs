//! What can go wrong with an environment that a user asked for or acted in.

use crate::core::worker_failure::Failure;

impl EnvError {
    /// Whether the user asked for what cannot be; else something went wrong with it.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Worker { .. } | Self::Deterministic { .. } | Self::Drawing { .. } => false,
            Self::Start { failure, .. } => match failure {
                Failure::Died(how) => !how.contains("was killed by"),
                Failure::Hung { .. } | Failure::System(_) => false,
                Failure::Nonsense(_) | Failure::Raised { .. } => true,
            },
            _ => true,
        }
    }
}

/// Says which thing, what it was, and what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// No native environment has this id.
    #[error(
        "unknown environment `{id}`; the nearest native ones are {}; those of Gymnasium and EnvPool run in Python, after `make bridge`: `gymnasium:{id}`, `envpool:{id}`",
        listed(nearest)
    )]
    UnknownEnv {
        /// The id that was asked for.
        id: String,
        /// Known ids, nearest first.
        nearest: Vec<String>,
    },

    /// The environment is MuJoCo's, and this build was made without it.
    #[error(
        "`{id}` needs MuJoCo, which this build leaves out; build with the feature `mujoco`, as `cargo build` does by itself"
    )]
    WithoutMujoco {
        /// The environment's id.
        id: String,
    },

    /// The environment is hosted by Python workers, and this build was made without them.
    #[error("`{id}` needs Python workers, which run on Linux, in builds with the feature `python`")]
    WithoutPython {
        /// The environment's id.
        id: String,
    },

    /// A MuJoCo model cannot be loaded, or is not of its task.
    #[error("the model {xml_file:?} of `{id}` {problem}")]
    Model {
        /// The environment's id.
        id: String,
        /// The model that was given.
        xml_file: String,
        /// What it lacks, or what MuJoCo says of it.
        problem: String,
    },

    /// An environment of a user's was registered under an id that there is already.
    #[error("`{id}` is taken; register the environment under another id")]
    TakenId {
        /// The id.
        id: String,
    },

    /// Nobody has written a controller for the environment.
    #[error("`{id}` has no scripted controller; `random` or a policy can act in it")]
    NoController {
        /// The environment's id.
        id: String,
    },

    /// The environment has no such kwarg.
    #[error("`{id}` has no kwarg `{name}`; {}", if known.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", listed(known)) })]
    UnknownKwarg {
        /// The environment's id.
        id: String,
        /// The kwarg that was given.
        name: String,
        /// The kwargs that it takes.
        known: Vec<String>,
    },

    /// A kwarg's value is of the wrong kind.
    #[error("kwarg `{name}` of `{id}` is {found}; it must be {wanted}")]
    Kwarg {
        /// The environment's id.
        id: String,
        /// The kwarg that was given.
        name: String,
        /// Its value, as JSON.
        found: String,
        /// What the value must be.
        wanted: &'static str,
    },

    /// A pool of no environments was asked for.
    #[error("a pool of `{id}` has 0 environments; it must have at least 1")]
    EmptyPool {
        /// The environment's id.
        id: String,
    },

    /// A discrete action is no index of an action.
    #[error("the action of environment {env} is {value}; it must be an integer from 0 to {}", actions - 1)]
    DiscreteAction {
        /// Index of the environment in its batch.
        env: usize,
        /// The action that was given.
        value: f32,
        /// How many actions there are.
        actions: usize,
    },

    /// One of several discrete actions is no index of an action.
    #[error(
        "dimension {dimension} of the action of environment {env} is {value}; it must be an integer from 0 to {}",
        actions - 1
    )]
    MultiDiscreteAction {
        /// Index of the environment in its batch.
        env: usize,
        /// Index of the value in the action.
        dimension: usize,
        /// The value that was given.
        value: f32,
        /// How many actions this dimension has.
        actions: usize,
    },

    /// A continuous action lies outside its bounds, or is not a number.
    #[error(
        "dimension {dimension} of the action of environment {env} is {value}; it must lie in [{low}, {high}]"
    )]
    BoxAction {
        /// Index of the environment in its batch.
        env: usize,
        /// Index of the value in the action.
        dimension: usize,
        /// The value that was given.
        value: f32,
        /// The least value of this dimension.
        low: f32,
        /// The greatest value of this dimension.
        high: f32,
    },

    /// A user's environment has a space that rows of `f32` cannot hold.
    #[error("the {which} space of `{id}` is {found}; it must be {wanted}")]
    Space {
        /// The environment's id.
        id: String,
        /// `observation` or `action`.
        which: &'static str,
        /// The space, as its environment gives it.
        found: String,
        /// What the space must be.
        wanted: &'static str,
    },

    /// Nothing ends an environment's episodes for certain.
    #[error("`{id}` has no limit of steps; give it one with the kwarg `max_episode_steps`")]
    NoStepLimit {
        /// The environment's id.
        id: String,
    },

    /// A worker process could not host an environment.
    #[error("`{id}` cannot be made: {failure}{}", remedy.as_ref().map_or(String::new(), |remedy| format!("; {remedy}")))]
    Start {
        /// The environment's id.
        id: String,
        /// What its worker did.
        failure: Failure,
        /// What the user can do about it.
        remedy: Option<String>,
    },

    /// A worker process failed more often than it may.
    #[error("worker {worker} of `{id}` has failed {failures} times, the last time because {failure}")]
    Worker {
        /// The environment's id.
        id: String,
        /// Index of the worker in its batch.
        worker: usize,
        /// How often it has failed.
        failures: u32,
        /// What it did last.
        failure: Failure,
    },

    /// A worker process was started again, and failed as it had before.
    #[error(
        "worker {worker} of `{id}` failed twice in a row at its step {step}, so it is not started again: {failure}"
    )]
    Deterministic {
        /// The environment's id.
        id: String,
        /// Index of the worker in its batch.
        worker: usize,
        /// Steps that it had taken since it was started.
        step: u64,
        /// What it did, both times.
        failure: Failure,
    },

    /// A worker process could not draw its environment.
    #[error("`{id}` cannot be drawn: {failure}")]
    Drawing {
        /// The environment's id.
        id: String,
        /// What its worker did.
        failure: Failure,
    },

    /// Nobody has written an expert for the environment.
    #[error(
        "`{id}` has no scripted expert; expected a native environment, EnvPool's Meta-World, Pong-v5 or Breakout-v5, or `gymnasium:minigrid:BabyAI-…`"
    )]
    NoExpert {
        /// The environment's id.
        id: String,
    },

    /// An expert's worker process failed.
    #[error("the expert of `{id}` failed: {failure}")]
    Expert {
        /// The environment's id.
        id: String,
        /// What its worker did.
        failure: Failure,
    },
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
