//! Experts of bridged environments: Meta-World's hand-written ones, in a worker, and our players of Atari games.

use std::time::Duration;

use super::fork_server::Starter;
use super::interpreter::interpreter;
use super::library::{Library, split};
use super::pool::{check_finite, start_error};
use super::process::{Host, Process, Task, WorkerConfig};
use super::settings::BridgeSettings;
use super::shared_buffer::{SharedBuffer, Widths};
use crate::atari;
use crate::core::controller::VecController;
use crate::core::error::EnvError;
use crate::core::kwargs::Kwargs;
use crate::core::worker_failure::Failure;

/// Numbers that Meta-World shows, and takes.
const WIDTHS: Widths = Widths { action: 4, observation: 39, infos: 0, image: None, expert: 0 };

/// Whether an id is of BabyAI's in Python, whose bot plays along where [`BridgeSettings::bot`] is set: it looks at the
/// environment itself.
pub(crate) fn has_bot(id: &str) -> bool {
    let inner = split(id).filter(|(library, _)| *library == Library::Gymnasium).map(|(_, inner)| inner);
    inner.is_some_and(|inner| inner.rsplit(':').next().unwrap_or(inner).starts_with("BabyAI-"))
}

/// The expert of a bridged environment, for batches of at most `num_envs` rows.
pub(crate) fn expert(
    id: &str,
    kwargs: &Kwargs,
    num_envs: usize,
    settings: &BridgeSettings,
) -> Result<Box<dyn VecController>, EnvError> {
    if let Some((Library::EnvPool, game)) = split(id)
        && let Some(player) = atari::player(id, game, kwargs)
    {
        return player;
    }
    let known =
        split(id).filter(|(library, inner)| *library == Library::EnvPool && inner.starts_with("MetaWorld/"));
    let (_, inner) = known.ok_or_else(|| EnvError::NoExpert { id: id.to_owned() })?;
    if kwargs.get("partially_observable") != Some(&false.into()) {
        return Err(EnvError::Kwarg {
            id: id.to_owned(),
            name: "partially_observable".to_owned(),
            found: kwargs
                .get("partially_observable")
                .map_or("true by default".to_owned(), ToString::to_string),
            wanted: "false, because the expert looks at the goal",
        });
    }
    let python = interpreter(settings.python.as_deref());
    let order = WorkerConfig {
        host: Host::MetaWorldExpert,
        id: inner.to_owned(),
        kwargs: Kwargs::new(),
        imports: Vec::new(),
        rows: num_envs,
        bot: false,
    };
    let timeout = Duration::from_secs_f64(settings.timeout_secs);
    let mut starter = Starter::new(python, order, timeout);
    let mut start = || {
        let mut worker = starter.start(num_envs)?;
        worker.contract()?;
        let region = worker.map(num_envs, WIDTHS, &[])?;
        Ok((worker, region))
    };
    let (worker, region) = start().map_err(|failure| start_error(id, starter.python(), failure))?;
    Ok(Box::new(Expert { id: id.to_owned(), worker, region }))
}

/// An expert looks at the observation alone, so a failure of its worker is one of the program's.
struct Expert {
    id: String,
    worker: Process,
    region: SharedBuffer,
}

impl Expert {
    fn ask(&mut self, rows: usize, observations: &[f32], actions: &mut [f32]) -> Result<(), Failure> {
        self.region.write_observations(observations)?;
        let rows = u32::try_from(rows).expect("a batch has less than 2^32 rows");
        self.worker.tell(Task::Act { rows })?;
        self.worker.done(self.worker.deadline())?;
        self.region.read_actions(actions)?;
        check_finite("an action", actions)
    }
}

impl VecController for Expert {
    fn act_rows(
        &mut self,
        rows: usize,
        observations: &[f32],
        _: &[u8],
        actions: &mut [f32],
    ) -> Result<(), EnvError> {
        assert_eq!(observations.len(), rows * WIDTHS.observation, "Meta-World shows 39 numbers");
        self.ask(rows, observations, actions)
            .map_err(|failure| EnvError::Expert { id: self.id.clone(), failure })
    }
}
