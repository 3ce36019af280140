//! Environments by their ids: native ones by Gymnasium's, a user's as they were registered, bridged ones by a
//! prefix.

use gymnasium_rs::core::Env;
use ndarray::Array1;

use crate::classic::{Acrobot, CartPole, MountainCar, MountainCarContinuous, Pendulum};
use crate::core::controller::{Controller, VecController};
use crate::core::error::EnvError;
use crate::core::kwargs::{KwargReader, Kwargs};
use crate::core::registered::Registered;
use crate::core::spec::EnvSpec;
use crate::core::task::NativeTask;
use crate::core::vec_env::VecEnv;
use crate::gymnasium::{self, Episode, SingleEnv, registered, registered_ids};
#[cfg(feature = "mujoco")]
use crate::mujoco::{self, MujocoTask};
use crate::pool::{Halves, TaskPool};
use crate::python::{self, BridgeSettings, is_bridged};

/// Makes a pool of `num_envs` environments, with workers as by default where it has any.
pub fn make(id: &str, kwargs: &Kwargs, num_envs: usize) -> Result<Box<dyn VecEnv>, EnvError> {
    make_with(id, kwargs, num_envs, &BridgeSettings::default())
}

/// Makes a pool of `num_envs` environments; `settings` are for ids that name a Python library.
pub fn make_with(
    id: &str,
    kwargs: &Kwargs,
    num_envs: usize,
    settings: &BridgeSettings,
) -> Result<Box<dyn VecEnv>, EnvError> {
    if num_envs == 0 {
        return Err(EnvError::EmptyPool { id: id.to_owned() });
    }
    if is_bridged(id) {
        return python::pool(id, kwargs, num_envs, settings);
    }
    if let Some(make) = registered(id) {
        let tasks: Result<Vec<_>, _> = (0..num_envs).map(|_| make(kwargs)).collect();
        return Ok(Box::new(TaskPool::new(tasks?)));
    }
    (find(id)?.pool)(kwargs, num_envs)
}

/// Makes `num_envs` environments as a batch of two halves; one environment is a batch of its own.
///
/// The halves are the same whatever the threads and processes. Those of a Python library have workers each, at
/// least one.
pub fn make_halves(
    id: &str,
    kwargs: &Kwargs,
    num_envs: usize,
    settings: &BridgeSettings,
) -> Result<Box<dyn VecEnv>, EnvError> {
    if num_envs < 2 {
        return make_with(id, kwargs, num_envs, settings);
    }
    let half = |num_envs: usize, processes: usize| {
        make_with(id, kwargs, num_envs, &BridgeSettings { processes: processes.max(1), ..settings.clone() })
    };
    let (more, fewer) = (num_envs.div_ceil(2), num_envs / 2);
    let first = || half(more, settings.processes.div_ceil(2));
    let second = || half(fewer, settings.processes / 2);
    // Python takes seconds to start.
    let (first, second) = if is_bridged(id) { rayon::join(first, second) } else { (first(), second()) };
    Ok(Box::new(Halves::new(first?, second?)))
}

/// Makes one task, outside any pool.
pub fn task(id: &str, kwargs: &Kwargs) -> Result<Box<dyn NativeTask>, EnvError> {
    (find(id)?.task)(kwargs)
}

/// Makes one environment for gymnasium-rs's interface.
pub fn episode(id: &str, kwargs: &Kwargs) -> Result<Box<SingleEnv>, EnvError> {
    (find(id)?.episode)(kwargs)
}

/// The contract of one environment in this process.
pub fn spec(id: &str, kwargs: &Kwargs) -> Result<EnvSpec, EnvError> {
    if let Some(make) = registered(id) {
        return Ok(make(kwargs)?.spec().clone());
    }
    Ok(task(id, kwargs)?.spec().clone())
}

/// The contracts of all native environments, with default kwargs, and of those registered ones that can be made
/// without kwargs.
pub fn specs() -> Vec<EnvSpec> {
    let default = |entry: &Entry| (entry.task)(&Kwargs::new()).expect("every kwarg has a default");
    let native = entries().map(|entry| default(entry).spec().clone());
    let registered = registered_ids().into_iter().filter_map(|id| spec(id, &Kwargs::new()).ok());
    native.chain(registered).collect()
}

/// Makes a gymnasium-rs environment known by `id`, wherever an id is asked for in this process.
///
/// `make` is called once an environment, with the kwargs that a config or a command line gives; what it does
/// not read is refused. An id that is taken stays what it was, and is refused.
pub fn register<E, F>(id: &str, max_episode_steps: u32, make: F) -> Result<(), EnvError>
where
    E: Env<Array1<f32>, Array1<f32>> + Send + 'static,
    F: Fn(&mut KwargReader) -> Result<E, EnvError> + Send + Sync + 'static,
{
    if is_native(id) {
        return Err(EnvError::TakenId { id: id.to_owned() });
    }
    gymnasium::register(id, max_episode_steps, make)
}

/// Whether an id is native, to this build or to one with all features.
fn is_native(id: &str) -> bool {
    entries().any(|entry| entry.id == id) || MUJOCO_IDS.contains(&id)
}

/// A native environment's controller that is worth cloning.
pub fn scripted(id: &str, kwargs: &Kwargs) -> Result<Box<dyn Controller>, EnvError> {
    (find(id)?.controller)(kwargs)
}

/// Whether an environment has an expert of its own, which plays along where [`BridgeSettings::bot`] is set.
pub fn has_bot(id: &str) -> bool {
    python::has_bot(id)
}

/// A controller that is worth cloning, of any environment, for batches of at most `num_envs`.
pub fn scripted_with(
    id: &str,
    kwargs: &Kwargs,
    num_envs: usize,
    settings: &BridgeSettings,
) -> Result<Box<dyn VecController>, EnvError> {
    if is_bridged(id) {
        return python::expert(id, kwargs, num_envs, settings);
    }
    if registered(id).is_some() {
        return Err(EnvError::NoController { id: id.to_owned() });
    }
    Ok(Box::new(scripted(id, kwargs)?))
}

static CLASSIC: [Entry; 5] = [
    entry::<CartPole>(),
    entry::<Pendulum>(),
    entry::<MountainCar>(),
    entry::<MountainCarContinuous>(),
    entry::<Acrobot>(),
];

/// The tasks of the feature `mujoco`, of which a build without it knows only the ids.
#[cfg(feature = "mujoco")]
static MUJOCO: [Entry; 11] = [
    entry::<MujocoTask<mujoco::Ant>>(),
    entry::<MujocoTask<mujoco::HalfCheetah>>(),
    entry::<MujocoTask<mujoco::Hopper>>(),
    entry::<MujocoTask<mujoco::Humanoid>>(),
    entry::<MujocoTask<mujoco::HumanoidStandup>>(),
    entry::<MujocoTask<mujoco::InvertedDoublePendulum>>(),
    entry::<MujocoTask<mujoco::InvertedPendulum>>(),
    entry::<MujocoTask<mujoco::Pusher>>(),
    entry::<MujocoTask<mujoco::Reacher>>(),
    entry::<MujocoTask<mujoco::Swimmer>>(),
    entry::<MujocoTask<mujoco::Walker2d>>(),
];

#[cfg(not(feature = "mujoco"))]
static MUJOCO: [Entry; 0] = [];

const MUJOCO_IDS: [&str; 11] = [
    "Ant-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
];

fn entries() -> impl Iterator<Item = &'static Entry> {
    CLASSIC.iter().chain(&MUJOCO)
}

struct Entry {
    id: &'static str,
    pool: fn(&Kwargs, usize) -> Made<dyn VecEnv>,
    task: fn(&Kwargs) -> Made<dyn NativeTask>,
    episode: fn(&Kwargs) -> Made<SingleEnv>,
    controller: fn(&Kwargs) -> Made<dyn Controller>,
}

type Made<T> = Result<Box<T>, EnvError>;

const fn entry<T: Registered>() -> Entry {
    Entry {
        id: T::ID,
        pool: |kwargs, num_envs| {
            let tasks = vec![read::<T>(kwargs)?; num_envs];
            Ok(Box::new(TaskPool::new(tasks).with_grain(T::GRAIN)))
        },
        task: |kwargs| Ok(Box::new(read::<T>(kwargs)?)),
        episode: |kwargs| Ok(Box::new(Episode::new(read::<T>(kwargs)?))),
        controller: |kwargs| {
            let controller = read::<T>(kwargs)?.controller();
            controller.ok_or_else(|| EnvError::NoController { id: T::ID.to_owned() })
        },
    }
}

fn read<T: Registered>(kwargs: &Kwargs) -> Result<T, EnvError> {
    let mut reader = KwargReader::new(T::ID, kwargs);
    let task = T::from_kwargs(&mut reader)?;
    reader.finish()?;
    Ok(task)
}

fn find(id: &str) -> Result<&'static Entry, EnvError> {
    entries().find(|entry| entry.id == id).ok_or_else(|| {
        if MUJOCO_IDS.contains(&id) {
            return EnvError::WithoutMujoco { id: id.to_owned() };
        }
        let ids = entries().map(|entry| entry.id).chain(registered_ids());
        let mut ids: Vec<String> = ids.map(str::to_owned).collect();
        ids.sort_by(|a, b| strsim::jaro_winkler(b, id).total_cmp(&strsim::jaro_winkler(a, id)));
        ids.truncate(3);
        EnvError::UnknownEnv { id: id.to_owned(), nearest: ids }
    })
}

#[cfg(test)]
mod tests {
    use super::{MUJOCO, MUJOCO_IDS};

    #[test]
    fn a_build_without_mujoco_knows_the_ids_of_its_tasks() {
        let ids: Vec<&str> = MUJOCO.iter().map(|entry| entry.id).collect();
        assert!(ids == MUJOCO_IDS || cfg!(not(feature = "mujoco")), "{ids:?}");
        #[cfg(not(feature = "mujoco"))]
        for id in MUJOCO_IDS {
            let error = super::spec(id, &crate::Kwargs::new()).expect_err("it is refused");
            let sentence = format!(
                "`{id}` needs MuJoCo, which this build leaves out; build with the feature `mujoco`, as `cargo build` does by itself"
            );
            assert_eq!(error.to_string(), sentence);
        }
    }
}
