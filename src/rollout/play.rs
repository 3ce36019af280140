//! Plays whole episodes, by one thread or by two.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use eva_rl_agents::ranks::Ranks;
use eva_rl_envs::{BridgeSettings, EnvError, Episodes, Kwargs, VecEnv};

use super::actor::Actor;
use super::worker::{Keep, Timings, WorkerResult, run_worker};
use crate::data::{Outcome, Trajectory, pack, pack_list, pack_outcome, unpack, unpack_list, unpack_outcome};
use crate::support::progress;
use crate::support::signals::{Abandoned, unless_abandoned};

/// Why what another rank has sent is refused.
const NOT_WHOLE: &str = "what another rank has sent of its episodes is not whole";

/// What was played.
#[derive(Debug)]
pub struct RolloutResult {
    /// This rank's episodes, by their number.
    pub episodes: Vec<Trajectory>,
    /// What the episodes of all ranks came to, by their number.
    pub outcomes: Vec<Outcome>,
    /// Episodes of all ranks that a worker's failure cut short, and that were played again.
    pub lost: usize,
    /// Where the time went, a thread each.
    pub timings: Vec<Timings>,
}

/// This rank's part of `num_envs` environments, at least one.
pub fn make_part(
    ranks: &dyn Ranks,
    id: &str,
    kwargs: &Kwargs,
    num_envs: usize,
    bridge: &BridgeSettings,
) -> Result<Box<dyn VecEnv>, EnvError> {
    let own = num_envs.saturating_sub(ranks.rank()).div_ceil(ranks.size());
    eva_rl_envs::make_halves(id, kwargs, own.max(1), bridge)
}

/// Plays episodes `0..episodes`, of which each rank gives its own.
///
/// Rank r of R plays episodes r, r + R, r + 2·R, …; of its N environments each plays every N-th of these, so the first to
/// finish are not favoured. An episode depends on its number and `seed`, not on R, on N or on threads. Where the run is
/// to stop, what was played is lost, and the error says so
/// ([`signals::Abandoned`](crate::support::signals::Abandoned)).
pub fn play(
    env: &mut dyn VecEnv,
    actor: &mut dyn Actor,
    episodes: usize,
    seed: u64,
    ranks: &dyn Ranks,
) -> anyhow::Result<RolloutResult> {
    play_groups(env, actor, episodes, seed, 1, ranks)
}

/// The same, where each `group` episodes in a row have one start.
pub fn play_groups(
    env: &mut dyn VecEnv,
    actor: &mut dyn Actor,
    episodes: usize,
    seed: u64,
    group: usize,
    ranks: &dyn Ranks,
) -> anyhow::Result<RolloutResult> {
    let whole: Mutex<Vec<Option<Trajectory>>> = Mutex::new((0..episodes).map(|_| None).collect());
    let keep = |number: usize, episode: Trajectory| {
        whole.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(episode);
        Ok(())
    };
    let played = play_into(env, actor, episodes, seed, group, &keep, ranks);
    let own = whole.into_inner().unwrap_or_else(PoisonError::into_inner);
    let played = unless_abandoned(played)?;
    if ranks.any(played.is_none()) {
        return Err(Abandoned.into());
    }
    let (lost, timings) = played.expect("no rank has abandoned its episodes");
    let own = own.into_iter().skip(ranks.rank()).step_by(ranks.size());
    let own: Vec<Trajectory> =
        own.map(|episode| episode.expect("every episode was played to its end")).collect();
    let outcomes: Vec<_> = own.iter().map(|episode| pack_outcome(&episode.outcome())).collect();
    let outcomes = gather(&outcomes, ranks)?;
    let outcomes: Option<Vec<Outcome>> = outcomes.iter().map(|bytes| unpack_outcome(bytes)).collect();
    let outcomes = outcomes.context(NOT_WHOLE)?;
    Ok(RolloutResult { episodes: own, outcomes, lost: ranks.count(lost), timings })
}

/// The episodes of all ranks by their number, on each, of which these are this one's.
pub fn gather_episodes(own: Vec<Trajectory>, ranks: &dyn Ranks) -> anyhow::Result<Vec<Trajectory>> {
    if ranks.is_alone() {
        return Ok(own);
    }
    let own: Vec<_> = own.iter().map(pack).collect();
    gather(&own, ranks)?.iter().map(|bytes| unpack(bytes).context(NOT_WHOLE)).collect()
}

/// What all ranks say of their episodes, by the episodes' numbers.
fn gather(own: &[Vec<u8>], ranks: &dyn Ranks) -> anyhow::Result<Vec<Vec<u8>>> {
    let said: Option<Vec<Vec<Vec<u8>>>> =
        ranks.gather(&pack_list(own)).iter().map(|bytes| unpack_list(bytes)).collect();
    let mut said: Vec<_> = said.context(NOT_WHOLE)?.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    while let Some(next) = said[all.len() % ranks.size()].next() {
        all.push(next);
    }
    Ok(all)
}

/// The same of this rank's own, where `keep` takes each episode as it ends; gives how many were lost here, and where the
/// time went.
pub fn play_into(
    env: &mut dyn VecEnv,
    actor: &mut dyn Actor,
    episodes: usize,
    seed: u64,
    group: usize,
    keep: &Keep,
    ranks: &dyn Ranks,
) -> anyhow::Result<(usize, Vec<Timings>)> {
    let size = ranks.size() as u64;
    let all = Episodes {
        first: ranks.rank() as u64,
        spacing: size,
        stride: env.num_envs() as u64 * size,
        group_size: group as u64,
        seed,
    };
    let own = episodes.saturating_sub(ranks.rank()).div_ceil(ranks.size());
    let bar = progress::bar(own, "episodes");
    let keep = |number: usize, episode: Trajectory| {
        bar.inc(1);
        keep(number, episode)
    };
    let twins = actor.clone_for_thread().zip(actor.clone_for_thread());
    let results = match (twins, env.halves()) {
        (Some((first, second)), Some(halves)) => play_halves(halves, [first, second], all, episodes, &keep)?,
        _ => vec![run_worker(env, actor, all, episodes, &keep, &AtomicBool::new(false))?],
    };
    let lost: usize = results.iter().map(|result| result.lost).sum();
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
                let numbers = Episodes {
                    first: all.first + half as u64 * all.spacing,
                    spacing: 2 * all.spacing,
                    ..all
                };
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
    use eva_rl_agents::ranks::OneRank;
    use eva_rl_envs::make_halves;

    use super::*;
    use crate::rollout::RandomActor;

    #[test]
    fn few_episodes_are_shared_out_over_both_halves_and_keep_their_numbers() {
        let played = |num_envs: usize| {
            let settings = BridgeSettings::default();
            let mut env = make_halves("Pendulum-v1", &Kwargs::new(), num_envs, &settings).unwrap();
            let mut actor = RandomActor { space: env.spec().action.clone() };
            play(env.as_mut(), &mut actor, 4, 3, &OneRank).unwrap()
        };
        let (many, one) = (played(9), played(1));
        assert_eq!(many.timings.iter().map(|timings| timings.steps).collect::<Vec<_>>(), [200, 200]);
        assert_eq!(many.episodes, one.episodes);
    }
}
