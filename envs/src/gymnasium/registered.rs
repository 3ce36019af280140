//! Users' own environments, by the ids that they were registered with.

use std::sync::{Arc, RwLock};

use gymnasium_rs::core::Env;
use ndarray::Array1;

use super::user::GymnasiumTask;
use crate::core::error::EnvError;
use crate::core::kwargs::{KwargReader, Kwargs};
use crate::core::task::Task;

/// Makes one task of a registered id.
type Make = dyn Fn(&Kwargs) -> Result<Box<dyn Task>, EnvError> + Send + Sync;

static REGISTERED: RwLock<Vec<(&'static str, Arc<Make>)>> = RwLock::new(Vec::new());

/// Makes a user's environment known by an id that no native one has.
pub fn register<E, F>(id: &str, max_episode_steps: u32, make: F) -> Result<(), EnvError>
where
    E: Env<Array1<f32>, Array1<f32>> + Send + 'static,
    F: Fn(&mut KwargReader) -> Result<E, EnvError> + Send + Sync + 'static,
{
    let id: &'static str = id.to_owned().leak(); // once an id, for as long as the process
    let task = move |kwargs: &Kwargs| -> Result<Box<dyn Task>, EnvError> {
        let mut reader = KwargReader::new(id, kwargs);
        let env = make(&mut reader)?;
        reader.finish()?;
        Ok(Box::new(GymnasiumTask::new(id, max_episode_steps, env)?))
    };
    let mut registered = REGISTERED.write().expect("no holder of the list panics");
    if registered.iter().any(|(taken, _)| *taken == id) {
        return Err(EnvError::TakenId { id: id.to_owned() });
    }
    registered.push((id, Arc::new(task)));
    Ok(())
}

/// What makes tasks of a registered id.
pub(crate) fn registered(id: &str) -> Option<Arc<Make>> {
    let registered = REGISTERED.read().expect("no holder of the list panics");
    registered.iter().find(|(known, _)| *known == id).map(|(_, make)| make.clone())
}

/// Every registered id, in the order of registration.
pub(crate) fn registered_ids() -> Vec<&'static str> {
    REGISTERED.read().expect("no holder of the list panics").iter().map(|(id, _)| *id).collect()
}
