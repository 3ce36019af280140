//! The ranks of a command: one, or the processes that `mpirun` has started, of which the first writes and speaks.

mod device;
#[cfg(feature = "mpi")]
mod mpi;

use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::time::Duration;
use std::{env, thread};

use eva_rl_agents::ranks::{OneRank, Ranks};
use signal_hook::low_level;

pub use device::device;

use super::errors;
use super::signals::{self, Stopped};

/// How launchers tell a process of how many it is one: Open MPI, MPICH and its relatives, MVAPICH.
const SIZE: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"];

/// How they tell it its number.
#[cfg(not(feature = "mpi"))]
const RANK: [&str; 3] = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK"];

/// What launchers' variables begin with.
const LAUNCHERS: [&str; 6] = ["OMPI_", "PMIX_", "PMI_", "PRTE_", "MV2_", "HYDI_"];

/// Where all ranks fail alike the others give the first this time to say so, and to end them.
const FIRST_SPEAKS: Duration = Duration::from_secs(1);

/// A time that is longer than any run.
pub const NEVER_SECS: u64 = 1 << 40;

static WORLD: OnceLock<Box<dyn Ranks + Send>> = OnceLock::new();

/// All ranks, of which this process is one.
pub fn world() -> &'static dyn Ranks {
    match WORLD.get() {
        Some(world) => world.as_ref(),
        None => &OneRank,
    }
}

/// Joins the other ranks, where a launcher has started several; it may start the process again from its beginning,
/// with a variable set.
pub fn begin() -> anyhow::Result<()> {
    let size = SIZE.iter().find_map(|name| env::var(name).ok()?.parse::<usize>().ok());
    match size {
        Some(size) if size > 1 => join(size),
        _ => Ok(()),
    }
}

fn join(size: usize) -> anyhow::Result<()> {
    let launched = launch(size)?;
    let world = WORLD.get_or_init(|| launched);
    super::threads::be_one();
    if !world.is_first() {
        super::silence::begin();
    }
    Ok(())
}

#[cfg(feature = "mpi")]
fn launch(size: usize) -> anyhow::Result<Box<dyn Ranks + Send>> {
    super::threads::wait_passively(); // which may start the program again, and MPI must not have begun
    let world = mpi::Mpi::join();
    if world.size() != size {
        let text = format!(
            "a launcher has started {size} processes, and MPI knows of {}, expected the launcher of the MPI that the program was built with",
            world.size()
        );
        return Err(errors::InputError(text).into());
    }
    Ok(Box::new(world))
}

#[cfg(not(feature = "mpi"))]
fn launch(size: usize) -> anyhow::Result<Box<dyn Ranks + Send>> {
    let text = format!(
        "a launcher has started {size} processes as the ranks of one run, and this build has no MPI, expected the one that `make mpi` builds"
    );
    let rank = RANK.iter().find_map(|name| env::var(name).ok()).unwrap_or_default();
    if rank != "0" {
        thread::sleep(FIRST_SPEAKS);
    }
    Err(errors::InputError(text).into())
}

/// A rank waits so long for the others from here on.
pub fn set_timeout(_secs: u64) {
    #[cfg(feature = "mpi")]
    mpi::set_timeout(_secs);
}

/// Whether this rank leaves a command to the first one, for whom it then waits however long that takes.
pub fn leaves_to_first() -> bool {
    set_timeout(NEVER_SECS);
    !world().is_first()
}

/// Has another program started by this one not take itself for a rank.
pub fn leave_out(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if LAUNCHERS.iter().any(|launcher| name.to_string_lossy().starts_with(launcher)) {
            command.env_remove(name);
        }
    }
}

/// Ends the process because of what its command line says, which is the same on all ranks: the first prints it.
pub fn refuse(refused: &clap::Error) -> ! {
    if !world().is_first() {
        thread::sleep(FIRST_SPEAKS);
        std::process::exit(refused.exit_code());
    }
    refused.exit()
}

/// Ends the command on all ranks, and answers with its exit code. Where ranks fail, one says why, and all end.
pub fn end(outcome: anyhow::Result<()>) -> ExitCode {
    let world = world();
    let Err(error) = outcome else {
        finalise();
        return ExitCode::SUCCESS;
    };
    if world.is_alone() {
        errors::tell(&format!("eva-rl: {error:#}"));
        if let Some(stopped) = error.downcast_ref::<Stopped>() {
            signals::end_by(stopped.signal);
        }
        return ExitCode::from(errors::exit_code(&error));
    }
    if let Some(stopped) = error.downcast_ref::<Stopped>() {
        errors::tell(&format!("eva-rl: {error:#}")); // all have agreed to stop
        finalise();
        return ExitCode::from(128 + stopped.signal as u8);
    }
    if !world.is_first() {
        thread::sleep(FIRST_SPEAKS);
    }
    if world.is_first() || signals::asked().is_none() {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        errors::tell_always(&format!("eva-rl: rank {} on {host}: {error:#}", world.rank()));
    }
    // A launcher ends the others where one ends without MPI_Finalize; MPI_Abort would only add words of its own.
    low_level::exit(i32::from(errors::exit_code(&error)))
}

/// Finalises MPI, together with the others.
fn finalise() {
    #[cfg(feature = "mpi")]
    if !world().is_alone() {
        world().barrier();
        mpi::finalise();
    }
}
