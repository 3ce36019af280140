//! Plays whole episodes, by one thread or by two.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use eva_rl_envs::{Episodes, VecEnv};

use super::actor::Actor;
use super::worker::{Keep, Timings, WorkerResult, run_worker};
use crate::data::Trajectory;
use crate::support::progress;

/// What was played.
#[derive(Debug)]
pub struct RolloutResult {
    /// Whole episodes, by their number.
    pub episodes: Vec<Trajectory>,
    /// Episodes that a worker's failure cut short, and that were played again.
    pub lost: usize,
    /// Where the time went, a thread each.
    pub timings: Vec<Timings>,
}

/// Plays episodes `0..episodes` and gives them in that order.
///
/// Environment i plays episodes i, i + N, i + 2·N, …, so the first to finish are not favoured; an
/// episode depends on its number and `seed`, not on N or on threads. Where the run is to stop, what was
/// played is lost, and the error says so ([`signals::Abandoned`](crate::support::signals::Abandoned)).
pub fn play(
    env: &mut dyn VecEnv,
    actor: &mut dyn Actor,
    episodes: usize,
    seed: u64,
) -> anyhow::Result<RolloutResult> {
    play_groups(env, actor, episodes, seed, 1)
}

/// The same, where each `group` episodes in a row have one start.
pub fn play_groups(
    env: &mut dyn VecEnv,
    actor: &mut dyn Actor,
    episodes: usize,
    seed: u64,
    group: usize,
) -> anyhow::Result<RolloutResult> {
    let whole: Mutex<Vec<Option<Trajectory>>> = Mutex::new((0..episodes).map(|_| None).collect());
    let keep = |number: usize, episode: Trajectory| {
        whole.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(episode);
        Ok(())
    };
    let (lost, timings) = play_into(env, actor, episodes, seed, group, &keep)?;
    let whole = whole.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter();
    let whole = whole.map(|episode| episode.expect("every episode was played to its end"));
    Ok(RolloutResult { episodes: whole.collect(), lost, timings })
}

/// The same, where `keep` takes each episode as it ends; gives how many were lost, and where the time went.
pub fn play_into(
    env: &mut dyn VecEnv,
    actor: &mut dyn Actor,
    episodes: usize,
    seed: u64,
    group: usize,
    keep: &Keep,
) -> anyhow::Result<(usize, Vec<Timings>)> {
    let all = Episodes { group_size: group as u64, ..Episodes::all(seed, env.num_envs()) };
    let bar = progress::bar(episodes, "episodes");
    let keep = |number: usize, episode: Trajectory| {
        bar.inc(1);
        keep(number, episode)
    };
    let twins = actor.clone_for_thread().zip(actor.clone_for_thread());
    let results = match (twins, env.halves()) {
        (Some((first, second)), Some(halves)) => play_halves(halves, [first, second], all, episodes, &keep)?,
        _ => vec![run_worker(env, actor, all, episodes, &keep, &AtomicBool::new(false))?],
    };
    let lost = results.iter().map(|result| result.lost).sum();
    Ok((lost, results.into_iter().map(|result| result.timings).collect()))
}

/// Plays each half on a thread of its own, which has half of the threads that tasks and libtorch may use.
///
/// Episodes alternate between the halves, so that a few are split too.
fn play_halves(
    halves: [&mut dyn VecEnv; 2],
    actors: [Box<dyn Actor + Send>; 2],
    all: Episodes,
    episodes: usize,
    keep: &Keep,
) -> anyhow::Result<Vec<WorkerResult>> {
    let (for_tasks, for_tensors) = (rayon::current_num_threads(), tch::get_num_threads());
    let stop = AtomicBool::new(false);
    let results = std::thread::scope(|scope| {
        let playing: Vec<_> = halves
            .into_iter()
            .zip(actors)
            .enumerate()
            .map(|(half, (env, mut actor))| {
                let numbers = Episodes { first: all.first + half as u64, spacing: 2, ..all };
                let stop = &stop;
                scope.spawn(move || {
                    let threads = (for_tasks / 2).max(1);
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    let result = pool.context("cannot start threads").and_then(|pool| {
                        pool.install(|| {
                            tch::set_num_threads((for_tensors / 2).max(1));
                            run_worker(env, actor.as_mut(), numbers, episodes, keep, stop)
                        })
                    });
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect();
        playing.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    tch::set_num_threads(for_tensors); // for threads that have not computed anything yet
    results
}

#[cfg(test)]
mod tests {
    use eva_rl_envs::{BridgeSettings, Kwargs, make_halves};

    use super::*;
    use crate::rollout::RandomActor;

    #[test]
    fn few_episodes_are_shared_out_over_both_halves_and_keep_their_numbers() {
        let played = |num_envs: usize| {
            let settings = BridgeSettings::default();
            let mut env = make_halves("Pendulum-v1", &Kwargs::new(), num_envs, &settings).unwrap();
            let mut actor = RandomActor { space: env.spec().action.clone() };
            play(env.as_mut(), &mut actor, 4, 3).unwrap()
        };
        let (many, one) = (played(9), played(1));
        assert_eq!(many.timings.iter().map(|timings| timings.steps).collect::<Vec<_>>(), [200, 200]);
        assert_eq!(many.episodes, one.episodes);
    }
}
