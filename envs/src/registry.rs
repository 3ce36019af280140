//! Environments by their ids: native ones by Gymnasium's, a user's as they were registered, bridged ones by a
//! prefix.

use crate::bridge::{self, BridgeSettings, is_bridged};
use crate::classic::{Acrobot, CartPole, MountainCar, MountainCarContinuous, Pendulum};
use crate::gymnasium::{registered, registered_ids};
use crate::kwargs::KwargReader;
#[cfg(feature = "mujoco")]
use crate::mujoco::{self, MujocoTask};
use crate::scripted::{self, Controller, VecController};
use crate::{EnvError, EnvSpec, Episode, Kwargs, NativeTask, SingleEnv, TaskPool, VecEnv};

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
        return Ok(Box::new(bridge::pool(id, kwargs, num_envs, settings)?));
    }
    if let Some(make) = registered(id) {
        let tasks: Result<Vec<_>, _> = (0..num_envs).map(|_| make(kwargs)).collect();
        return Ok(Box::new(TaskPool::new(tasks?)));
    }
    (find(id)?.pool)(kwargs, num_envs)
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

/// Whether an id is native, to this build or to one with all features.
pub(crate) fn is_native(id: &str) -> bool {
    entries().any(|entry| entry.id == id) || MUJOCO_IDS.contains(&id)
}

/// A native environment's controller that is worth imitating.
pub fn scripted(id: &str, kwargs: &Kwargs) -> Result<Box<dyn Controller>, EnvError> {
    (find(id)?.controller)(kwargs)
}

/// A controller that is worth imitating, of any environment, for batches of at most `num_envs`.
pub fn scripted_with(
    id: &str,
    kwargs: &Kwargs,
    num_envs: usize,
    settings: &BridgeSettings,
) -> Result<Box<dyn VecController>, EnvError> {
    if is_bridged(id) {
        return bridge::expert(id, kwargs, num_envs, settings);
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

/// What a task tells the registry.
trait Registered: NativeTask + Clone + 'static {
    const ID: &'static str;
    /// Fewest environments that are worth a thread of their own: about 20 µs of steps.
    const GRAIN: usize;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError>;

    /// A controller that is worth imitating, if there is one.
    fn controller(&self) -> Option<Box<dyn Controller>>;
}

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

impl Registered for CartPole {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 1024;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new(kwargs.boolean("sutton_barto_reward", false)?))
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        Some(Box::new(scripted::BalancePole))
    }
}

impl Registered for Pendulum {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 1024;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new(kwargs.number("g", 10.0)?))
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        Some(Box::new(scripted::SwingUp::new(self.gravity())))
    }
}

impl Registered for MountainCar {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 1024;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new(kwargs.number("goal_velocity", 0.0)?))
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        Some(Box::new(scripted::RockCar))
    }
}

impl Registered for MountainCarContinuous {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 1024;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new(kwargs.number("goal_velocity", 0.0)?))
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        Some(Box::new(scripted::RockCarThriftily))
    }
}

impl Registered for Acrobot {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 64;

    fn from_kwargs(_kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new())
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        Some(Box::new(scripted::PumpLinks))
    }
}

#[cfg(feature = "mujoco")]
impl<R: mujoco::Rules> Registered for MujocoTask<R> {
    const ID: &'static str = R::FACTS.id;
    const GRAIN: usize = 1;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Self::from_kwargs(kwargs)
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        let width = crate::Task::spec(self).observation_width();
        Some(Box::new(scripted::Gait::of(R::FACTS.id, width)?))
    }
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
