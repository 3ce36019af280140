//! What environments show beside the numbers of an observation: images, and what experts of their own would do.

use std::ops::Range;

use super::shared_buffer::Widths;

/// One row per environment of each.
pub(super) struct Extras {
    /// Bytes of an image.
    pub(super) bytes: usize,
    /// Of what each environment shows now.
    pixels: Vec<u8>,
    /// Of the last observation of an ended episode.
    last: Vec<u8>,
    /// Numbers of an expert's action; 0 where there is no expert.
    expert_width: usize,
    /// What each environment's expert would do now.
    experts: Vec<f32>,
}

impl Extras {
    /// Zeros for `num_envs` environments.
    pub(super) fn new(num_envs: usize, widths: Widths) -> Self {
        let (bytes, expert_width) = (widths.pixels(), widths.expert);
        Self {
            bytes,
            pixels: vec![0; num_envs * bytes],
            last: vec![0; num_envs * bytes],
            expert_width,
            experts: vec![0.0; num_envs * expert_width],
        }
    }

    /// The images of some environments.
    pub(super) fn pixels(&self, rows: Range<usize>) -> &[u8] {
        &self.pixels[rows.start * self.bytes..rows.end * self.bytes]
    }

    /// The image of the last observation of an ended episode.
    pub(super) fn last(&self, row: usize) -> &[u8] {
        &self.last[row * self.bytes..][..self.bytes]
    }

    pub(super) fn last_mut(&mut self, row: usize) -> &mut [u8] {
        &mut self.last[row * self.bytes..][..self.bytes]
    }

    /// What an environment's expert would do now.
    pub(super) fn expert(&self, row: usize) -> &[f32] {
        &self.experts[row * self.expert_width..][..self.expert_width]
    }

    /// The images of some environments, and what their experts would do, to be written.
    pub(super) fn rows(&mut self, rows: &Range<usize>) -> (&mut [u8], &mut [f32]) {
        (
            &mut self.pixels[rows.start * self.bytes..rows.end * self.bytes],
            &mut self.experts[rows.start * self.expert_width..rows.end * self.expert_width],
        )
    }
}
