//! The trajectories that updates draw windows from, offline and online.

use std::collections::VecDeque;
use std::ops::Range;

use eva_rl_agents::model::Conditioning;
use eva_rl_envs::Phase;
use rand::Rng;
use rand::seq::SliceRandom;

use super::trajectory::{Dataset, Trajectory};
use super::windows::{Step, Windows};

/// Trajectories with their returns-to-go; past its capacity the oldest leaves.
#[derive(Debug)]
pub struct Replay {
    capacity: usize,
    observation_width: usize,
    action_width: usize,
    held: VecDeque<Held>,
    /// Whether windows go on over episodes.
    spans_episodes: bool,
    /// Whether windows hold what came before each step.
    with_previous: bool,
    /// The steps at which parts end, where as many windows are drawn from each part.
    part_ends: Vec<usize>,
    /// Whether it is one rank's shard.
    shard: bool,
}

#[derive(Debug)]
struct Held {
    trajectory: Trajectory,
    returns_to_go: Vec<f32>,
}

impl Replay {
    /// Empty, for trajectories of these widths.
    pub fn new(capacity: usize, observation_width: usize, action_width: usize) -> Self {
        Self {
            capacity,
            observation_width,
            action_width,
            held: VecDeque::new(),
            spans_episodes: false,
            with_previous: false,
            part_ends: Vec::new(),
            shard: false,
        }
    }

    /// A dataset's episodes, with windows for a policy of this conditioning.
    pub fn of(dataset: Dataset, conditioning: &Conditioning) -> Self {
        let (count, widths) =
            (dataset.trajectories.len(), (dataset.observation_width, dataset.action.width()));
        let mut replay = Self::new(count, widths.0, widths.1).read_by(conditioning);
        dataset.trajectories.into_iter().for_each(|trajectory| replay.push(trajectory));
        replay
    }

    /// The same, with windows for a policy of this conditioning: they go on over the episodes of a part where its context
    /// does, and hold the action and reward before each step where it reads them.
    pub fn read_by(self, conditioning: &Conditioning) -> Self {
        let Conditioning { spans_episodes, reads_previous, .. } = *conditioning;
        Self { spans_episodes, with_previous: reads_previous, ..self }
    }

    /// The trajectories, oldest first.
    pub fn trajectories(&self) -> impl Iterator<Item = &Trajectory> {
        self.held.iter().map(|held| &held.trajectory)
    }

    /// Relabels a trajectory with what it did earn, and takes it in.
    pub fn push(&mut self, trajectory: Trajectory) {
        self.hold(trajectory);
        if self.held.len() > self.capacity {
            self.held.pop_front();
        }
    }

    /// Says that what was taken in since the last such call is a part, from which as many windows are drawn
    /// as from any other. For a replay that no trajectory leaves.
    pub fn end_part(&mut self) {
        self.part_ends.push(self.steps());
    }

    /// Takes in the `capacity` trajectories of highest return, best last so that they stay longest.
    pub fn push_best(&mut self, mut trajectories: Vec<Trajectory>) {
        trajectories.sort_by(|a, b| a.total_return().total_cmp(&b.total_return()));
        let worse = trajectories.len().saturating_sub(self.capacity);
        trajectories.into_iter().skip(worse).for_each(|trajectory| self.push(trajectory));
    }

    /// Takes in a trajectory; past the capacity the one of lowest return leaves, not the oldest.
    pub fn push_to_best(&mut self, trajectory: Trajectory) {
        self.hold(trajectory);
        if self.held.len() > self.capacity {
            let earned = |index: &usize| self.held[*index].returns_to_go[0];
            let worst = (0..self.held.len()).min_by(|a, b| earned(a).total_cmp(&earned(b)));
            self.held.remove(worst.expect("it holds more than its capacity"));
        }
    }

    fn hold(&mut self, mut trajectory: Trajectory) {
        if trajectory.len() > 0 {
            trajectory.images.shrink_to_fit();
            let returns_to_go = trajectory.returns_to_go();
            self.held.push_back(Held { trajectory, returns_to_go });
        }
    }

    /// The shard of rank `rank` of `size`, of a replay without parts: its part of the capacity, and every `size`-th
    /// trajectory from the oldest on. Where the replay is shards of as many ranks one after another, of these `lengths`,
    /// it is that rank's.
    pub fn shard(self, rank: usize, size: usize, lengths: &[usize]) -> Self {
        let capacity = self.capacity.saturating_sub(rank).div_ceil(size);
        let before: usize = lengths.iter().take(rank).sum();
        let is_own = |number: usize| match lengths.get(rank) {
            Some(length) if lengths.len() == size => (before..before + length).contains(&number),
            _ => number % size == rank,
        };
        let numbered = self.held.into_iter().enumerate();
        let own = numbered.filter(|(number, _)| is_own(*number)).map(|(_, held)| held).collect();
        Self { capacity, held: own, shard: true, ..self }
    }

    /// Whether it is one rank's shard, and what all hold is that of all ranks.
    pub fn is_shard(&self) -> bool {
        self.shard
    }

    /// Gives the trajectories back, oldest first.
    pub fn into_trajectories(self) -> Vec<Trajectory> {
        self.held.into_iter().map(|held| held.trajectory).collect()
    }

    /// Steps that it holds; each begins a window.
    pub fn steps(&self) -> usize {
        self.held.iter().map(|held| held.trajectory.len()).sum()
    }

    /// The steps of each part; of all trajectories where there are no parts.
    fn parts(&self) -> Vec<Range<usize>> {
        let all = [self.steps()];
        let ends = if self.part_ends.is_empty() { &all[..] } else { &self.part_ends };
        let begins = [0].into_iter().chain(ends.iter().copied());
        begins.zip(ends).map(|(begin, end)| begin..*end).collect()
    }

    /// How long [`Replay::pass`] is.
    pub fn steps_of_a_pass(&self) -> usize {
        let parts = self.parts();
        parts.iter().map(Range::len).max().unwrap_or(0) * parts.len()
    }

    /// Every step once in a random order; where there are parts they take turns, and those that are shorter than
    /// the longest begin again in another order.
    pub fn pass(&self, rng: &mut impl Rng) -> Vec<usize> {
        let parts = self.parts();
        let longest = parts.iter().map(Range::len).max().unwrap_or(0);
        let orders: Vec<Vec<usize>> = parts
            .into_iter()
            .map(|part| {
                let mut order = Vec::with_capacity(longest + part.len());
                while order.len() < longest {
                    let mut once: Vec<usize> = part.clone().collect();
                    once.shuffle(rng);
                    order.extend(once);
                }
                order
            })
            .collect();
        (0..longest).flat_map(|turn| orders.iter().map(move |order| order[turn])).collect()
    }

    /// `batch` windows of `steps` steps, as the original decision transformer draws them: a trajectory
    /// by its length, a start uniform within it, what is missing padded on the left.
    pub fn sample(&self, batch: usize, steps: usize, rng: &mut impl Rng) -> Windows {
        self.windows(&self.starts(batch, rng), steps)
    }

    /// The steps at which the windows of [`Replay::sample`] begin, counted over the trajectories.
    pub fn starts(&self, batch: usize, rng: &mut impl Rng) -> Vec<usize> {
        assert!(self.steps() > 0, "windows are drawn from at least one step");
        // A uniform step among all steps is a trajectory by its length and a uniform start in it.
        let parts = self.parts();
        let draw = |_| {
            let part = if parts.len() == 1 { 0 } else { rng.gen_range(0..parts.len()) };
            rng.gen_range(parts[part].clone())
        };
        (0..batch).map(draw).collect()
    }

    /// The step at which each trajectory ends, counted over all.
    fn ends(&self) -> Vec<usize> {
        let ends = self.held.iter().scan(0, |total, held| {
            *total += held.trajectory.len();
            Some(*total)
        });
        ends.collect()
    }

    /// The step at which what a window may show ends, after each of these starts.
    fn ends_of_windows(&self, starts: &[usize], ends: &[usize]) -> Vec<usize> {
        let parts = if self.spans_episodes { self.parts() } else { Vec::new() };
        let end = |step: &usize| match parts.iter().find(|part| part.contains(step)) {
            Some(part) => part.end,
            None => ends[ends.partition_point(|end| *end <= *step)],
        };
        starts.iter().map(end).collect()
    }

    /// The real steps of the windows of `steps` steps that begin at these.
    pub fn real_steps(&self, starts: &[usize], steps: usize) -> usize {
        let last = self.ends_of_windows(starts, &self.ends());
        starts.iter().zip(last).map(|(start, end)| steps.min(end - start)).sum()
    }

    /// The windows of `steps` steps that begin at these of all steps, counted over the trajectories.
    pub fn windows(&self, starts: &[usize], steps: usize) -> Windows {
        let ends = self.ends();
        let windows = Windows::new(starts.len(), steps, self.observation_width, self.action_width);
        let image_size = self.held.front().map_or(0, |held| held.trajectory.images.size());
        let mut windows = windows.with_images(image_size).with_previous(self.with_previous);
        let last = self.ends_of_windows(starts, &ends);
        for (row, (&step, end)) in starts.iter().zip(last).enumerate() {
            let mut index = ends.partition_point(|end| *end <= step);
            windows.set_total(row, self.held[index].returns_to_go[0]);
            let mut slot = steps - steps.min(end - step);
            let mut start = step - (ends[index] - self.held[index].trajectory.len());
            while slot < steps {
                let length = (steps - slot).min(self.held[index].trajectory.len() - start);
                self.held[index].copy_steps(start..start + length, &mut windows, row, slot);
                (index, start, slot) = (index + 1, 0, slot + length);
            }
        }
        windows
    }
}

impl Held {
    /// Puts these steps into a window of `windows`, from the slot `first` on.
    fn copy_steps(&self, steps: Range<usize>, windows: &mut Windows, window: usize, first: usize) {
        let Self { trajectory, returns_to_go } = self;
        let (observation_width, action_width) = windows.widths();
        let images = trajectory.images.rows(steps.clone());
        for (at, timestep) in steps.enumerate() {
            let before = timestep.saturating_sub(1); // of the first step, the action counts nowhere
            let step = Step {
                timestep,
                state: &trajectory.observations.row(timestep, observation_width),
                pixels: &images[at * trajectory.images.size()..][..trajectory.images.size()],
                action: &trajectory.actions.row(timestep, action_width),
                previous_action: &trajectory.actions.row(before, action_width),
                previous_reward: if timestep == 0 { 0.0 } else { trajectory.rewards[before] },
                reward: trajectory.rewards[timestep],
                return_to_go: returns_to_go[timestep],
                terminates: timestep + 1 == trajectory.len() && trajectory.end == Phase::Terminated,
            };
            windows.set(window, first + at, &step);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::data::Images;

    /// Rewards of 1; observations count from `first`.
    fn trajectory(first: f32, length: usize) -> Trajectory {
        Trajectory {
            observations: (0..=length).map(|step| first + step as f32).collect(),
            images: Images::default(),
            actions: (0..length).map(|step| -first - step as f32).collect(),
            rewards: vec![1.0; length],
            end: Phase::Terminated,
            infos: Vec::new(),
            succeeded: None,
        }
    }

    fn replay(capacity: usize, trajectories: &[(f32, usize)]) -> Replay {
        let mut replay = Replay::new(capacity, 1, 1);
        for (first, length) in trajectories {
            replay.push(trajectory(*first, *length));
        }
        replay
    }

    #[test]
    fn a_short_window_is_padded_on_the_left() {
        let replay = replay(1, &[(10.0, 3)]);
        let windows = replay.sample(64, 5, &mut ChaCha8Rng::seed_from_u64(1));
        for row in 0..64 {
            let slots = row * 5..row * 5 + 5;
            let mask = &windows.mask[slots.clone()];
            let padding = mask.iter().take_while(|real| !**real).count();
            assert!((2..=4).contains(&padding) && mask[padding..].iter().all(|real| *real));
            let start = padding - 2; // a window that starts at step s holds 3 − s steps
            for (i, slot) in slots.skip(padding).enumerate() {
                let step = start + i;
                assert_eq!(windows.timesteps[slot], step as i64);
                assert_eq!(windows.states[slot], 10.0 + step as f32);
                assert_eq!(windows.actions[slot], -10.0 - step as f32);
                assert_eq!(windows.returns_to_go[slot], (3 - step) as f32);
            }
        }
    }

    #[test]
    fn trajectories_are_drawn_by_their_length() {
        let replay = replay(2, &[(0.0, 10), (100.0, 30)]);
        let windows = replay.sample(8000, 1, &mut ChaCha8Rng::seed_from_u64(2));
        let long = windows.states.iter().filter(|state| **state >= 100.0).count() as f64 / 8000.0;
        assert!((long - 0.75).abs() < 0.02, "the longer one was drawn {long} of the time");
    }

    #[test]
    fn parts_are_drawn_evenly_whatever_their_length() {
        let mut replay = Replay::new(3, 1, 1);
        for (first, length) in [(0.0, 10), (50.0, 20), (100.0, 90)] {
            replay.push(trajectory(first, length));
            replay.end_part();
        }
        let windows = replay.sample(9000, 1, &mut ChaCha8Rng::seed_from_u64(2));
        for (low, high) in [(0.0, 10.0), (50.0, 70.0), (100.0, 190.0)] {
            let drawn = windows.states.iter().filter(|state| (low..high).contains(*state)).count();
            assert!((drawn as f64 / 9000.0 - 1.0 / 3.0).abs() < 0.02, "{low}: {drawn} of 9000");
        }
    }

    #[test]
    fn a_pass_shows_every_step_once_and_parts_in_turn() {
        let whole = replay(2, &[(0.0, 3), (10.0, 5)]);
        let mut pass = whole.pass(&mut ChaCha8Rng::seed_from_u64(1));
        assert_ne!(pass, (0..8).collect::<Vec<_>>(), "the order is random");
        pass.sort_unstable();
        assert_eq!(pass, (0..8).collect::<Vec<_>>());

        let mut replay = Replay::new(2, 1, 1);
        for (first, length) in [(0.0, 2), (10.0, 5)] {
            replay.push(trajectory(first, length));
            replay.end_part();
        }
        let pass = replay.pass(&mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!((pass.len(), replay.steps_of_a_pass()), (10, 10));
        assert!(pass.chunks(2).all(|turn| turn[0] < 2 && turn[1] >= 2), "{pass:?}");
        let mut longer: Vec<usize> = pass.iter().copied().filter(|step| *step >= 2).collect();
        longer.sort_unstable();
        assert_eq!(longer, [2, 3, 4, 5, 6], "the longer part is seen once");
        assert_ne!((pass[0], pass[4]), (pass[2], pass[2]), "and the shorter one as evenly as may be");
    }

    #[test]
    fn the_last_step_is_drawn_too() {
        let replay = replay(1, &[(0.0, 4)]);
        let windows = replay.sample(400, 1, &mut ChaCha8Rng::seed_from_u64(3));
        assert!((0..4).all(|step| windows.timesteps.contains(&step)));
    }

    #[test]
    fn past_its_capacity_the_oldest_leaves() {
        let replay = replay(2, &[(0.0, 2), (1.0, 2), (2.0, 2)]);
        let firsts: Vec<f32> = replay.trajectories().map(|t| t.observations.all()[0]).collect();
        assert_eq!(firsts, [1.0, 2.0]);
    }

    #[test]
    fn the_best_are_kept_and_the_very_best_is_newest() {
        let mut replay = Replay::new(2, 1, 1);
        replay.push_best(vec![trajectory(0.0, 5), trajectory(1.0, 9), trajectory(2.0, 2)]);
        let lengths: Vec<usize> = replay.trajectories().map(Trajectory::len).collect();
        assert_eq!(lengths, [5, 9]);
    }

    #[test]
    fn among_the_best_only_a_better_one_finds_a_place() {
        let mut replay = replay(2, &[(0.0, 5), (1.0, 9)]);
        replay.push_to_best(trajectory(2.0, 3));
        replay.push_to_best(trajectory(3.0, 7));
        let lengths: Vec<usize> = replay.trajectories().map(Trajectory::len).collect();
        assert_eq!(lengths, [9, 7]);
    }

    #[test]
    fn only_the_last_step_of_an_episode_that_the_task_ended_terminates() {
        let mut replay = replay(2, &[(0.0, 3)]);
        replay.push(Trajectory { end: Phase::Truncated, ..trajectory(1.0, 3) });
        let windows = replay.windows(&[0, 3], 3);
        assert_eq!(windows.terminates, [false, false, true, false, false, false]);
    }

    #[test]
    fn a_spanning_window_goes_on_over_the_episodes_of_its_part() {
        let mut replay = Replay { spans_episodes: true, with_previous: true, ..Replay::new(3, 1, 1) };
        for (first, length, ends_part) in [(10.0, 2), (20.0, 3), (30.0, 2)].map(|(a, b)| (a, b, a != 10.0)) {
            replay.push(trajectory(first, length));
            if ends_part {
                replay.end_part();
            }
        }
        // From the second step of the first episode, through the second one, and not into the next part.
        let windows = replay.windows(&[1], 6);
        assert_eq!(windows.mask, [false, false, true, true, true, true]);
        assert_eq!(windows.states[2..], [11.0, 20.0, 21.0, 22.0]);
        assert_eq!(windows.timesteps[2..], [1, 0, 1, 2]);
        let view = windows.view();
        let previous = view.previous.unwrap();
        // The first step of an episode has nothing before it, and what stands there counts nowhere.
        assert_eq!([2, 4, 5].map(|slot| previous.actions[slot]), [-10.0, -20.0, -21.0]);
        assert_eq!(previous.rewards[2..], [1.0, 0.0, 1.0, 1.0]);
        // Without parts it goes on to the end of all.
        replay.part_ends.clear();
        assert_eq!(replay.windows(&[1], 6).states, [11.0, 20.0, 21.0, 22.0, 30.0, 31.0]);
    }

    #[test]
    fn a_window_can_be_conditioned_on_another_return_than_was_earned() {
        let replay = replay(1, &[(0.0, 3)]);
        let capped = |to_go: f32| to_go.min(8.5);
        let windows = replay.windows(&[1], 2).conditioned_on(10.0, capped); // 3 were earned: 7 more than that
        assert_eq!(windows.returns_to_go, [8.5, 8.0]);
    }

    #[test]
    fn real_steps_are_those_that_windows_show() {
        for spans_episodes in [false, true] {
            let replay = Replay { spans_episodes, ..replay(3, &[(10.0, 3), (20.0, 2), (30.0, 1)]) };
            for start in 0..6 {
                let shown = replay.windows(&[start], 4).mask.iter().filter(|real| **real).count();
                assert_eq!(replay.real_steps(&[start], 4), shown, "{start}");
            }
            assert_eq!(replay.real_steps(&[2, 5], 4), if spans_episodes { 4 + 1 } else { 1 + 1 });
        }
    }

    #[test]
    fn shards_are_dealt_out_or_are_those_of_a_checkpoint() {
        let firsts = |replay: &Replay| -> Vec<f32> {
            replay.trajectories().map(|trajectory| trajectory.observations.row(0, 1)[0]).collect()
        };
        for (lengths, wanted) in [
            (&[][..], [vec![1.0, 3.0, 5.0], vec![2.0, 4.0]]),
            (&[3, 2][..], [vec![1.0, 2.0, 3.0], vec![4.0, 5.0]]),
            (&[2, 2, 1][..], [vec![1.0, 3.0, 5.0], vec![2.0, 4.0]]), // of another number of ranks
        ] {
            for (rank, wanted) in wanted.into_iter().enumerate() {
                let all = replay(5, &[1.0, 2.0, 3.0, 4.0, 5.0].map(|first| (first, 1)));
                let mut shard = all.shard(rank, 2, lengths);
                assert_eq!(firsts(&shard), wanted);
                // Its capacity is its part of the whole.
                (0..9).for_each(|_| shard.push(trajectory(9.0, 1)));
                assert_eq!(firsts(&shard).len(), [3, 2][rank]);
            }
        }
    }
}
