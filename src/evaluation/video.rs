//! An animated picture of an episode.

use std::path::Path;

use anyhow::Context;
use eva_rl_agents::ranks::OneRank;
use eva_rl_envs::{
    BridgeSettings, EnvError, EnvSpec, Episodes, Frame, Kwargs, StepBatch, VecEnv, is_bridged,
};
use gif::{Encoder, Repeat};

use crate::rollout::{self, Actor};
use crate::support::atomic::write_file;

/// Hundredths of a second that a frame is shown: at least, where a video is in real time, and at most.
const DELAYS: (u16, u16) = (3, 10);

/// The same where nobody knows how long a step lasts.
const USUAL_DELAY: u16 = 4;

/// Frames of an episode at most; of a long one every second step is drawn, or every third, and so on.
const MOST_FRAMES: u32 = 200;

/// An animated GIF, which repeats.
#[derive(Debug)]
pub struct Video {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// The file's bytes.
    pub gif: Vec<u8>,
    /// Which steps it shows, and how fast.
    pub pace: String,
}

impl Video {
    /// Writes the file: whole or not at all.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        write_file(path, |aside| Ok(std::fs::write(aside, &self.gif)?))
    }
}

/// One environment that is asked to draw itself.
pub fn drawable(id: &str, kwargs: &Kwargs, bridge: &BridgeSettings) -> Result<Box<dyn VecEnv>, EnvError> {
    let mut kwargs = kwargs.clone();
    if is_bridged(id) {
        kwargs.entry("render_mode".to_owned()).or_insert("rgb_array".into());
    }
    eva_rl_envs::make_with(id, &kwargs, 1, bridge)
}

/// Videos episode 0 of `seed` in a pool of one.
pub fn record(env: Box<dyn VecEnv>, actor: &mut dyn Actor, seed: u64) -> anyhow::Result<Video> {
    let every = env.spec().max_episode_steps.div_ceil(MOST_FRAMES).max(1) as usize;
    let mut recorded = Recorded { env, every, steps: 0, frames: Vec::new() };
    rollout::play(&mut recorded, actor, 1, seed, &OneRank)?;
    let first =
        recorded.frames.first().with_context(|| format!("`{}` cannot be drawn", recorded.env.spec().id))?;
    let (delay, pace) = pace(every, recorded.env.spec().step_secs());
    let mut gif = Vec::new();
    let mut encoder = Encoder::new(&mut gif, first.width as u16, first.height as u16, &[])?;
    encoder.set_repeat(Repeat::Infinite)?;
    for frame in &recorded.frames {
        let mut shown = gif::Frame::from_rgb_speed(frame.width as u16, frame.height as u16, &frame.rgb, 30);
        shown.delay = delay;
        encoder.write_frame(&shown)?;
    }
    drop(encoder);
    Ok(Video { width: first.width, height: first.height, gif, pace })
}

/// How long a frame is shown, in hundredths of a second, and what that means.
fn pace(every: usize, step_secs: Option<f64>) -> (u16, String) {
    let shown = if every == 1 { "every step".to_owned() } else { format!("one step of {every}") };
    let Some(step_secs) = step_secs else { return (USUAL_DELAY, shown) };
    let real = 100.0 * every as f64 * step_secs;
    let delay = (real.round() as u16).clamp(DELAYS.0, DELAYS.1);
    let speed = real / f64::from(delay);
    let speed = if (speed - 1.0).abs() < 0.05 {
        "in real time".to_owned()
    } else {
        format!("at {speed:.1} times real time")
    };
    (delay, format!("{shown}, {speed}"))
}

/// A pool of one environment that is drawn before a step, now and then.
struct Recorded {
    env: Box<dyn VecEnv>,
    every: usize,
    steps: usize,
    frames: Vec<Frame>,
}

impl VecEnv for Recorded {
    fn spec(&self) -> &EnvSpec {
        self.env.spec()
    }

    fn num_envs(&self) -> usize {
        self.env.num_envs()
    }

    fn begin(&mut self, episodes: Episodes, observations: &mut [f32]) -> Result<(), EnvError> {
        self.env.begin(episodes, observations)
    }

    fn retire(&mut self, env: usize) {
        self.env.retire(env);
    }

    fn pixels(&self, env: usize) -> &[u8] {
        self.env.pixels(env)
    }

    fn final_pixels(&self, env: usize) -> &[u8] {
        self.env.final_pixels(env)
    }

    fn step(&mut self, actions: &[f32], batch: &mut StepBatch) -> Result<(), EnvError> {
        if self.steps.is_multiple_of(self.every) {
            self.frames.extend(self.env.render(0)?);
        }
        self.steps += 1;
        self.env.step(actions, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::RandomActor;

    /// Frames of an episode of random play.
    fn frames(id: &str) -> usize {
        let env = drawable(id, &Kwargs::new(), &BridgeSettings::default()).unwrap();
        let mut actor = RandomActor { space: env.spec().action.clone() };
        let video = record(env, &mut actor, 0).unwrap();
        let mut decoder = gif::Decoder::new(video.gif.as_slice()).unwrap();
        assert_eq!(
            (usize::from(decoder.width()), usize::from(decoder.height())),
            (video.width, video.height)
        );
        let mut frames = 0;
        while decoder.read_next_frame().unwrap().is_some() {
            frames += 1;
        }
        frames
    }

    #[test]
    fn a_video_keeps_real_time_where_that_is_not_too_slow_and_says_its_speed() {
        assert_eq!(pace(5, Some(0.008)), (4, "one step of 5, in real time".to_owned())); // Hopper
        assert_eq!(pace(5, Some(0.05)), (10, "one step of 5, at 2.5 times real time".to_owned())); // HalfCheetah
        assert_eq!(pace(1, None), (4, "every step".to_owned()));
    }

    #[test]
    fn every_step_of_a_short_episode_is_drawn_and_every_fifth_of_a_long_one() {
        assert_eq!(frames("Pendulum-v1"), 200);
        assert_eq!(frames("MountainCarContinuous-v0"), 200); // of 999 steps
    }
}
