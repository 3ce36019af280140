//! How many threads compute, and how they wait for each other.
//!
//! libgomp's threads spin while they wait. On cores that others use too a spinning thread keeps its own
//! partner from running, and two threads are many times slower than one. So threads sleep while they wait,
//! work that one thread does in a millisecond or two is left to it, and the user's own settings stand:
//! `--threads`, `OMP_NUM_THREADS`, `RAYON_NUM_THREADS`, `OMP_WAIT_POLICY`. Measured in `docs/threads.md`.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::{env, thread};

use anyhow::Context;
use eva_rl_agents::model::PolicyConfig;

/// Multiply-adds of a pass's widest product that are worth a thread.
const PRODUCTS_PER_THREAD: f64 = 1e8;

/// Multiply-adds of the convolutions over a byte of an image, about.
const PRODUCTS_PER_PIXEL: f64 = 256.0;

/// How a thread waits; any of them is the user's own choice.
const WAITING: [&str; 3] = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"];

/// What `--threads` said.
static CHOSEN: OnceLock<usize> = OnceLock::new();

/// Threads that there are where the user says nothing, if not a thread each core.
static USUAL: OnceLock<usize> = OnceLock::new();

/// From here on there is one thread where the user says nothing: of ranks each has a core.
pub fn be_one() {
    USUAL.get_or_init(|| 1);
}

/// Takes the user's choice, before anything computes.
pub fn begin(chosen: Option<u32>) -> anyhow::Result<()> {
    let tasks = match chosen {
        Some(threads) => {
            let threads = threads as usize;
            CHOSEN.get_or_init(|| threads);
            tch::set_num_threads(threads as i32);
            Some(threads)
        }
        // rayon takes its own variable itself.
        None => limit().filter(|_| env::var_os("RAYON_NUM_THREADS").is_none()),
    };
    match tasks {
        Some(threads) => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
            pool.context("cannot start threads")
        }
        None => Ok(()),
    }
}

/// Threads for passes over so many windows of a policy, one after the other.
pub fn for_passes(config: &PolicyConfig, windows: usize) {
    set_threads(threads_for(config, windows, images(config, windows)), 1);
}

/// Threads for EVA's passes over the two halves of so many windows, side by side on two threads that share them.
pub fn for_eva(config: &PolicyConfig, windows: usize) {
    let half = windows.div_ceil(2);
    set_threads(2 * threads_for(config, half, images(config, half)), 2);
}

/// Threads for rollouts in so many environments, which two threads play that share them.
pub fn for_rollouts(config: &PolicyConfig, num_envs: usize) {
    // An image is embedded once, when it is shown.
    let half = num_envs.div_ceil(2);
    match threads_for(config, half, half) {
        1 => set_threads(1, 1),
        several => set_threads(2 * several, 2),
    }
}

/// Steps of a window.
fn steps(config: &PolicyConfig) -> i64 {
    config.context_length.unwrap_or(config.n_positions).max(1)
}

/// Images of so many windows.
fn images(config: &PolicyConfig, windows: usize) -> usize {
    windows.saturating_mul(steps(config) as usize)
}

/// Threads that a pass over so many windows, which embeds so many images, is worth.
fn threads_for(config: &PolicyConfig, windows: usize, images: usize) -> usize {
    let tokens = windows as f64 * (steps(config) * config.token_order.len() as i64) as f64;
    let widest = tokens * config.hidden_size as f64 * (4 * config.hidden_size) as f64;
    let convolutions = images as f64 * config.pixels() as f64 * PRODUCTS_PER_PIXEL;
    (widest.max(convolutions) / PRODUCTS_PER_THREAD).max(1.0) as usize
}

/// Has libtorch compute on so many threads, or on as many as there are; the user's own number stands. Where
/// several of these would wait for each other, and spin, the program starts itself again, because libgomp asks
/// only once how to wait: when it is loaded.
fn set_threads(wanted: usize, parts: i32) {
    if CHOSEN.get().is_none() && env::var_os("OMP_NUM_THREADS").is_none() {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        tch::set_num_threads(wanted.min(limit().unwrap_or(cores).min(cores)) as i32);
    }
    if tch::get_num_threads() / parts > 1 {
        wait_passively();
    }
}

/// Has libgomp's threads sleep while they wait, where the user has not said how: the program starts itself again.
pub fn wait_passively() {
    if WAITING.iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    if let Ok(program) = env::current_exe() {
        let mut again = Command::new(program);
        again.arg0(name).args(arguments).env(WAITING[0], "passive");
        let _it_spins_then = again.exec();
    }
}

/// OpenMP's own bound on threads, which a sweep gives its runs, or that of a rank.
fn limit() -> Option<usize> {
    let said = env::var("OMP_THREAD_LIMIT").ok().and_then(|limit| limit.parse().ok());
    said.filter(|limit| *limit > 0).or(USUAL.get().copied())
}

/// Gives a run of a sweep its share of the cores; what the user says of threads stands.
pub fn divide(run: &mut Command, jobs: usize) {
    if let Some(threads) = CHOSEN.get() {
        run.arg("--threads").arg(threads.to_string());
    } else if ["OMP_NUM_THREADS", "OMP_THREAD_LIMIT"].iter().all(|name| env::var_os(name).is_none()) {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        run.env("OMP_THREAD_LIMIT", cores.div_ceil(jobs).to_string());
    }
    if WAITING.iter().all(|name| env::var_os(name).is_none()) {
        run.env(WAITING[0], "passive"); // as it would itself
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(hidden_size: i64, context_length: i64, windows: usize, expected: usize) {
        let context_length = Some(context_length);
        let config = PolicyConfig { hidden_size, context_length, ..PolicyConfig::default() };
        assert_eq!(threads_for(&config, windows, images(&config, windows)), expected);
    }

    #[test]
    fn a_small_policy_s_batch_is_worth_one_thread() {
        check(64, 10, 64, 1);
        check(64, 20, 64, 1);
    }

    #[test]
    fn images_are_worth_more() {
        let config = PolicyConfig {
            hidden_size: 64,
            context_length: Some(10),
            image_shape: Some([4, 84, 84]),
            ..PolicyConfig::default()
        };
        assert_eq!(threads_for(&config, 8, images(&config, 8)), 5);
        assert_eq!(threads_for(&config, 8, 8), 1);
    }

    #[test]
    fn wider_policies_and_larger_batches_are_worth_more() {
        check(128, 20, 64, 2);
        check(256, 20, 64, 10);
        check(64, 20, 1024, 10);
    }
}
