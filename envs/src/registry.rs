//! The environments that can be made by id.

use crate::error::EnvError;
use crate::options::{Kwargs, check_names};
use crate::pool::TaskPool;
use crate::spec::EnvSpec;
use crate::task::Controller;
use crate::tasks::{Acrobot, CartPole, MountainCar, MountainCarContinuous, Native, Pendulum};
use crate::vec_env::VecEnv;

/// Classic control is cheap: this many tasks are worth a thread's wake-up.
const CHUNK: usize = 128;

type MadePool = Result<Box<dyn VecEnv>, EnvError>;

struct Entry {
    id: &'static str,
    options: &'static [&'static str],
    spec: fn(&Kwargs) -> Result<EnvSpec, EnvError>,
    pool: fn(&Kwargs, usize) -> MadePool,
    controller: fn(&Kwargs) -> Result<Box<dyn Controller>, EnvError>,
}

const ENTRIES: [Entry; 5] = [
    entry::<Acrobot>(),
    entry::<CartPole>(),
    entry::<MountainCar>(),
    entry::<MountainCarContinuous>(),
    entry::<Pendulum>(),
];

const fn entry<T: Native>() -> Entry {
    Entry {
        id: T::ID,
        options: T::OPTIONS,
        spec: |kwargs| Ok(T::new(kwargs)?.spec().clone()),
        pool: |kwargs, count| {
            let tasks = (0..count).map(|_| T::new(kwargs)).collect::<Result<Vec<T>, _>>()?;
            Ok(Box::new(TaskPool::new(tasks, CHUNK)?))
        },
        controller: |kwargs| Ok(T::new(kwargs)?.controller()),
    }
}

fn find(id: &str, kwargs: &Kwargs) -> Result<&'static Entry, EnvError> {
    let Some(entry) = ENTRIES.iter().find(|entry| entry.id == id) else {
        let mut near: Vec<&str> = ENTRIES.iter().map(|entry| entry.id).collect();
        near.sort_by(|a, b| strsim::jaro_winkler(b, id).total_cmp(&strsim::jaro_winkler(a, id)));
        near.truncate(3);
        return Err(EnvError::UnknownEnv { id: id.to_owned(), nearest: format!("`{}`", near.join("`, `")) });
    };
    check_names(id, kwargs, entry.options)?;
    Ok(entry)
}

/// A pool of `num_envs` environments.
pub fn make(id: &str, kwargs: &Kwargs, num_envs: usize) -> MadePool {
    (find(id, kwargs)?.pool)(kwargs, num_envs)
}

/// What an environment is, without making a pool of it.
pub fn spec(id: &str, kwargs: &Kwargs) -> Result<EnvSpec, EnvError> {
    (find(id, kwargs)?.spec)(kwargs)
}

/// A scripted controller for one environment.
pub fn scripted(id: &str, kwargs: &Kwargs) -> Result<Box<dyn Controller>, EnvError> {
    (find(id, kwargs)?.controller)(kwargs)
}

/// Every environment with its default options, in the order of their ids.
pub fn specs() -> Vec<EnvSpec> {
    let none = Kwargs::new();
    ENTRIES.iter().map(|entry| (entry.spec)(&none).expect("default options are valid")).collect()
}
