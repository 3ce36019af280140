//! The images of an episode's observations, each frame held once where an environment stacks its last ones.

use std::ops::Range;

/// Images of bytes, channels first.
///
/// An environment that stacks frames shows each of them several times: an observation's channels are the one before
/// moved up, and as many new ones. They lie in one row of frames then, of which an observation is a stretch. An
/// environment in which an observation once is not so has each of them whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frames {
    /// Bytes of an observation.
    size: usize,
    /// Channels of an observation.
    channels: usize,
    /// Bytes by which an observation's stretch begins behind the one before.
    stride: usize,
    count: usize,
    bytes: Vec<u8>,
}

impl Frames {
    /// None yet, of images of this shape: channels, height, width.
    pub fn new([channels, height, width]: [usize; 3]) -> Self {
        let size = channels * height * width;
        // One new channel a step, until an observation is seen that is otherwise.
        Self { size, channels, stride: height * width, count: 0, bytes: Vec::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Bytes of an observation's image.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Channels of an observation's image.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The image of observation `index`: channels · height · width.
    pub fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.stretch(index)]
    }

    fn stretch(&self, index: usize) -> Range<usize> {
        index * self.stride..index * self.stride + self.size
    }

    /// How far an observation's stretch begins behind the one before, and the bytes that all of them lie in.
    pub fn parts(&self) -> (usize, &[u8]) {
        (self.stride, &self.bytes)
    }

    /// `count` images of this shape from their parts; none where these do not fit.
    pub fn from_parts(shape: [usize; 3], count: usize, stride: usize, bytes: Vec<u8>) -> Option<Self> {
        let frames = Self { stride, count, bytes, ..Self::new(shape) };
        let length = frames.bytes_of(count)?;
        ((1..=frames.size).contains(&stride) && frames.bytes.len() == length).then_some(frames)
    }

    /// Bytes of `count` images.
    fn bytes_of(&self, count: usize) -> Option<usize> {
        match count.checked_sub(1) {
            None => Some(0),
            Some(later) => later.checked_mul(self.stride)?.checked_add(self.size),
        }
    }

    /// Adds the image of one more observation; of environments without images it is empty.
    pub fn push(&mut self, image: &[u8]) {
        assert_eq!(image.len(), self.size, "an image has the wrong length for its episode");
        if self.count > 0 && self.stride < self.size {
            let kept = self.size - self.stride;
            if self.get(self.count - 1)[self.stride..] != image[..kept] {
                self.widen();
                return self.push(image);
            }
            self.bytes.extend_from_slice(&image[kept..]);
        } else {
            self.bytes.extend_from_slice(image);
        }
        self.count += 1;
    }

    /// Gives back the memory that more images would have had.
    pub fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Tries three new channels a step, as stacked colours have, where that divides them; and then all of them.
    fn widen(&mut self) {
        let images: Vec<Vec<u8>> = (0..self.count).map(|index| self.get(index).to_vec()).collect();
        let channel = self.size / self.channels;
        let thirds = self.channels > 3 && self.channels.is_multiple_of(3);
        self.stride = if self.stride == channel && thirds { 3 * channel } else { self.size };
        (self.count, self.bytes) = (0, Vec::new());
        images.iter().for_each(|image| self.push(image));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observation `index` of an environment that stacks `frames` of `new` channels each, of two pixels.
    fn stacked(index: usize, frames: usize, new: usize) -> Vec<u8> {
        (index * new..(index + frames) * new)
            .flat_map(|channel| [channel as u8, 100 + channel as u8])
            .collect()
    }

    fn check(images: &[Vec<u8>], channels: usize, held: usize) {
        let mut frames = Frames::new([channels, 1, 2]);
        images.iter().for_each(|image| frames.push(image));
        for (index, image) in images.iter().enumerate() {
            assert_eq!(frames.get(index), image, "observation {index}");
        }
        assert_eq!((frames.count, frames.bytes.len()), (images.len(), held));
    }

    #[test]
    fn stacked_frames_are_held_once() {
        let grey: Vec<Vec<u8>> = (0..10).map(|index| stacked(index, 4, 1)).collect();
        check(&grey, 4, 2 * (4 + 9));
        let colour: Vec<Vec<u8>> = (0..10).map(|index| stacked(index, 2, 3)).collect();
        check(&colour, 6, 2 * (6 + 9 * 3));
    }

    #[test]
    fn images_are_the_same_from_their_parts_which_must_fit() {
        let mut frames = Frames::new([4, 1, 2]);
        (0..10).for_each(|index| frames.push(&stacked(index, 4, 1)));
        let (stride, bytes) = frames.parts();
        let of = |count, stride, bytes| Frames::from_parts([4, 1, 2], count, stride, bytes);
        assert_eq!(of(10, stride, bytes.to_vec()).as_ref(), Some(&frames));
        assert_eq!(of(9, stride, bytes.to_vec()), None);
        assert_eq!(of(10, 0, bytes.to_vec()), None);
        assert_eq!(of(usize::MAX, stride, bytes.to_vec()), None);
    }

    #[test]
    fn what_is_not_stacked_is_held_whole_from_whenever_it_shows() {
        let mut images: Vec<Vec<u8>> = (0..5).map(|index| stacked(index, 4, 1)).collect();
        images.push(vec![7; 8]);
        check(&images, 4, 6 * 8);
    }

    #[test]
    fn observations_without_an_image_hold_nothing() {
        let mut frames = Frames::default();
        frames.push(&[]);
        frames.push(&[]);
        assert_eq!((frames.bytes.len(), frames.get(1)), (0, [].as_slice()));
    }
}
