//! Environments by their ids: native ones by Gymnasium's, bridged ones by a prefix.

use crate::bridge::{self, BridgeSettings, is_bridged};
use crate::classic::{Acrobot, CartPole, MountainCar, MountainCarContinuous, Pendulum};
use crate::kwargs::KwargReader;
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

/// The contract of one native environment.
pub fn spec(id: &str, kwargs: &Kwargs) -> Result<EnvSpec, EnvError> {
    Ok(task(id, kwargs)?.spec().clone())
}

/// The contracts of all native environments, with default kwargs.
pub fn specs() -> Vec<EnvSpec> {
    let default = |entry: &Entry| (entry.task)(&Kwargs::new()).expect("every kwarg has a default");
    ENTRIES.iter().map(|entry| default(entry).spec().clone()).collect()
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
    Ok(Box::new(scripted(id, kwargs)?))
}

static ENTRIES: [Entry; 5] = [
    entry::<CartPole>(),
    entry::<Pendulum>(),
    entry::<MountainCar>(),
    entry::<MountainCarContinuous>(),
    entry::<Acrobot>(),
];

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

    fn controller(&self) -> Box<dyn Controller>;
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
        controller: |kwargs| Ok(read::<T>(kwargs)?.controller()),
    }
}

fn read<T: Registered>(kwargs: &Kwargs) -> Result<T, EnvError> {
    let mut reader = KwargReader::new(T::ID, kwargs);
    let task = T::from_kwargs(&mut reader)?;
    reader.finish()?;
    Ok(task)
}

fn find(id: &str) -> Result<&'static Entry, EnvError> {
    ENTRIES.iter().find(|entry| entry.id == id).ok_or_else(|| {
        let mut ids: Vec<String> = ENTRIES.iter().map(|entry| entry.id.to_owned()).collect();
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

    fn controller(&self) -> Box<dyn Controller> {
        Box::new(scripted::BalancePole)
    }
}

impl Registered for Pendulum {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 1024;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new(kwargs.number("g", 10.0)?))
    }

    fn controller(&self) -> Box<dyn Controller> {
        Box::new(scripted::SwingUp::new(self.gravity()))
    }
}

impl Registered for MountainCar {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 1024;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new(kwargs.number("goal_velocity", 0.0)?))
    }

    fn controller(&self) -> Box<dyn Controller> {
        Box::new(scripted::RockCar)
    }
}

impl Registered for MountainCarContinuous {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 1024;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new(kwargs.number("goal_velocity", 0.0)?))
    }

    fn controller(&self) -> Box<dyn Controller> {
        Box::new(scripted::RockCarThriftily)
    }
}

impl Registered for Acrobot {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 64;

    fn from_kwargs(_kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new())
    }

    fn controller(&self) -> Box<dyn Controller> {
        Box::new(scripted::PumpLinks)
    }
}
