//! An animated picture of an episode.

use std::path::Path;

use anyhow::Context;
use eva_rl_envs::{EnvError, EnvSpec, Frame, StepBatch, VecEnv};
use gif::{Encoder, Repeat};

/// Hundredths of a second that a frame is shown.
const DELAY: u16 = 4;

/// A pool of one environment that is drawn before every step.
pub struct Filmed {
    env: Box<dyn VecEnv>,
    frames: Vec<Frame>,
}

impl Filmed {
    /// Films environment 0 of a pool; nothing comes of one that cannot draw.
    pub fn new(env: Box<dyn VecEnv>) -> Self {
        Self { env, frames: Vec::new() }
    }

    /// Writes what was filmed as an animated GIF: whole or not at all.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let first =
            self.frames.first().with_context(|| format!("`{}` cannot be drawn", self.env.spec().id))?;
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, first.width as u16, first.height as u16, &[])?;
        encoder.set_repeat(Repeat::Infinite)?;
        for frame in &self.frames {
            let mut shown =
                gif::Frame::from_rgb_speed(frame.width as u16, frame.height as u16, &frame.rgb, 30);
            shown.delay = DELAY;
            encoder.write_frame(&shown)?;
        }
        drop(encoder);
        let aside = path.with_extension("gif.tmp");
        std::fs::write(&aside, bytes)
            .and_then(|()| std::fs::rename(&aside, path))
            .with_context(|| format!("cannot write {path:?}"))
    }
}

impl VecEnv for Filmed {
    fn spec(&self) -> &EnvSpec {
        self.env.spec()
    }

    fn num_envs(&self) -> usize {
        self.env.num_envs()
    }

    fn reset(&mut self, seed: u64, observations: &mut [f32]) -> Result<(), EnvError> {
        self.env.reset(seed, observations)
    }

    fn step(&mut self, actions: &[f32], batch: &mut StepBatch) -> Result<(), EnvError> {
        self.frames.extend(self.env.render(0)?);
        self.env.step(actions, batch)
    }
}
