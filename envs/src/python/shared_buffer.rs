//! The memory that a worker maps: one row per environment.
//!
//! This side reads and writes it as a file, in one system call a step and without `unsafe`: a worker
//! that scribbles where it should not can give wrong numbers, and nothing worse.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

use bytemuck::{cast_slice, cast_slice_mut};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{preadv, pwritev};

use crate::core::space::ImageLeaf;
use crate::core::worker_failure::Failure;

/// How many numbers a row of each kind has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Widths {
    pub(super) action: usize,
    pub(super) observation: usize,
    pub(super) infos: usize,
    /// The image that is kept apart from an observation's numbers.
    pub(super) image: Option<ImageLeaf>,
    /// Of the action that the environment's own expert would take; 0 where it has none.
    pub(super) expert: usize,
}

impl Widths {
    /// Bytes of an observation's image.
    pub(super) fn pixels(&self) -> usize {
        self.image.map_or(0, |image| image.shape.iter().product())
    }
}

/// The memory. In it follow each other: seeds, actions, final observations (those of the environments
/// that ended, one after another), observations, experts' actions, rewards, infos, all of four bytes a number; and of
/// one byte phases, pixels, and final pixels like the final observations. `worker.py` has the same order.
#[derive(Debug)]
pub(super) struct SharedBuffer {
    memory: OwnedFd,
    rows: usize,
    widths: Widths,
}

/// What one step of a worker gave.
pub(super) struct Answer<'a> {
    pub(super) observations: &'a mut [f32],
    pub(super) expert_actions: &'a mut [f32],
    pub(super) rewards: &'a mut [f32],
    pub(super) infos: &'a mut [f32],
    pub(super) phases: &'a mut [u8],
    pub(super) pixels: &'a mut [u8],
}

impl SharedBuffer {
    /// New memory, all zeros, that nobody can shrink.
    pub(super) fn new(rows: usize, widths: Widths) -> Result<Self, Failure> {
        let memory = memfd_create("eva-rl", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let region = Self { memory, rows, widths };
        ftruncate(&region.memory, region.final_pixels_at() + (rows * widths.pixels()) as u64)?;
        fcntl_add_seals(&region.memory, SealFlags::SHRINK | SealFlags::GROW)?;
        Ok(region)
    }

    /// The file to map.
    pub(super) fn memory(&self) -> &OwnedFd {
        &self.memory
    }

    /// Writes what a step needs, or a reset, which needs no actions.
    pub(super) fn write(&self, seeds: &[u32], actions: &[f32]) -> Result<(), Failure> {
        let slices = [IoSlice::new(cast_slice(seeds)), IoSlice::new(cast_slice(actions))];
        let wanted = 4 * (actions.len() + seeds.len());
        whole(pwritev(&self.memory, &slices, 0)?, wanted)
    }

    /// Reads what a step gave.
    pub(super) fn read(&self, answer: Answer) -> Result<(), Failure> {
        let mut slices = [
            IoSliceMut::new(cast_slice_mut(answer.observations)),
            IoSliceMut::new(cast_slice_mut(answer.expert_actions)),
            IoSliceMut::new(cast_slice_mut(answer.rewards)),
            IoSliceMut::new(cast_slice_mut(answer.infos)),
            IoSliceMut::new(answer.phases),
            IoSliceMut::new(answer.pixels),
        ];
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        whole(preadv(&self.memory, &mut slices, self.observations_at(self.rows))?, wanted)
    }

    /// Reads the observations, their images and what experts would do, which is all that a reset gives.
    pub(super) fn read_start(
        &self,
        observations: &mut [f32],
        expert_actions: &mut [f32],
        pixels: &mut [u8],
    ) -> Result<(), Failure> {
        let mut slices =
            [IoSliceMut::new(cast_slice_mut(observations)), IoSliceMut::new(cast_slice_mut(expert_actions))];
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        whole(preadv(&self.memory, &mut slices, self.observations_at(self.rows))?, wanted)?;
        self.read_bytes(pixels, self.pixels_at())
    }

    /// Reads as many final observations as `rows` holds, and as many images.
    pub(super) fn read_finals(&self, rows: &mut [f32], pixels: &mut [u8]) -> Result<(), Failure> {
        self.read_bytes(cast_slice_mut(rows), self.observations_at(0))?;
        self.read_bytes(pixels, self.final_pixels_at())
    }

    fn read_bytes(&self, bytes: &mut [u8], at: u64) -> Result<(), Failure> {
        let wanted = bytes.len();
        whole(preadv(&self.memory, &mut [IoSliceMut::new(bytes)], at)?, wanted)
    }

    /// Writes the observations that an expert is asked about.
    pub(super) fn write_observations(&self, observations: &[f32]) -> Result<(), Failure> {
        let slices = [IoSlice::new(cast_slice(observations))];
        whole(pwritev(&self.memory, &slices, self.observations_at(self.rows))?, 4 * observations.len())
    }

    /// Reads the actions that an expert chose.
    pub(super) fn read_actions(&self, actions: &mut [f32]) -> Result<(), Failure> {
        self.read_bytes(cast_slice_mut(actions), 4 * self.rows as u64)
    }

    /// Where observations begin, behind so many rows of final ones.
    fn observations_at(&self, finals: usize) -> u64 {
        4 * (self.rows * (self.widths.action + 1) + finals * self.widths.observation) as u64
    }

    /// Where the images begin, behind the phases.
    fn pixels_at(&self) -> u64 {
        let numbers = 4 * (self.widths.observation + self.widths.expert + 1 + self.widths.infos) + 1;
        self.observations_at(self.rows) + (self.rows * numbers) as u64
    }

    /// Where the images of final observations begin.
    fn final_pixels_at(&self) -> u64 {
        self.pixels_at() + (self.rows * self.widths.pixels()) as u64
    }
}

fn whole(found: usize, wanted: usize) -> Result<(), Failure> {
    if found == wanted {
        return Ok(());
    }
    Err(Failure::System(format!("{found} of {wanted} bytes of the shared memory were moved")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_untouched() {
        let image = ImageLeaf { leaf: 1, shape: [1, 1, 5], channels_last: false };
        let region = SharedBuffer::new(
            2,
            Widths { action: 1, observation: 3, infos: 0, image: Some(image), expert: 0 },
        )
        .unwrap();
        region.write(&[1, 2], &[7.0, 8.0]).unwrap();
        region.write_observations(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let (mut actions, mut finals) = ([0.0; 2], [9.0; 6]);
        region.read_actions(&mut actions).unwrap();
        region.read_finals(&mut finals, &mut []).unwrap();
        assert_eq!((actions, finals), ([7.0, 8.0], [0.0; 6]));
        let (mut observations, mut rewards, mut phases, mut pixels) = ([0.0; 6], [9.0; 2], [9; 2], [9; 10]);
        let answer = Answer {
            observations: &mut observations,
            expert_actions: &mut [],
            rewards: &mut rewards,
            infos: &mut [],
            phases: &mut phases,
            pixels: &mut pixels,
        };
        region.read(answer).unwrap();
        assert_eq!((observations, rewards, phases), ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0; 2], [0; 2]));
        assert_eq!(pixels, [0; 10]);
    }
}
