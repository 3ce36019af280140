//! The images of an episode's observations, in memory or where they lie in their dataset's file.

use std::borrow::Cow;
use std::ops::Range;

use hdf5_pure::Dataset;

use super::frames::Frames;
use super::reading::hdf5_reason;

/// Images of bytes, channels first, one per observation.
#[derive(Clone, Debug)]
pub enum Images {
    /// In memory.
    Held(Frames),
    /// In a file, from which they are read as they are asked for.
    Stored(StoredImages),
}

/// Images in a file that nobody writes, compressed in chunks of some observations.
#[derive(Clone, Debug)]
pub struct StoredImages {
    /// `[T + 1]` images of the environment's own layout.
    dataset: Dataset,
    /// Channels, height, width.
    shape: [usize; 3],
    /// Whether the file has the channels behind height and width.
    channels_last: bool,
    count: usize,
}

impl Images {
    /// Bytes of one image; 0 where the environment shows none.
    pub fn size(&self) -> usize {
        match self {
            Self::Held(frames) => frames.size(),
            Self::Stored(stored) => stored.size(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Held(frames) => frames.len(),
            Self::Stored(stored) => stored.count,
        }
    }

    /// The images of these observations, one after another.
    pub fn rows(&self, range: Range<usize>) -> Cow<'_, [u8]> {
        match self {
            Self::Held(frames) if range.len() == 1 => Cow::Borrowed(frames.get(range.start)),
            Self::Held(frames) => {
                let mut rows = Vec::with_capacity(range.len() * frames.size());
                for index in range {
                    rows.extend_from_slice(frames.get(index));
                }
                Cow::Owned(rows)
            }
            Self::Stored(stored) => {
                let rows = stored.read(range);
                // All of them were read when the dataset was.
                Cow::Owned(rows.expect("a dataset's file is not written while it is read"))
            }
        }
    }

    /// The images in memory; those of a file are copied there.
    pub fn frames(&self) -> Cow<'_, Frames> {
        match self {
            Self::Held(frames) => Cow::Borrowed(frames),
            Self::Stored(stored) => {
                let mut frames = Frames::new(stored.shape);
                for start in (0..stored.count).step_by(StoredImages::PIECE) {
                    let rows = self.rows(start..stored.count.min(start + StoredImages::PIECE));
                    rows.chunks(stored.size()).for_each(|image| frames.push(image));
                }
                Cow::Owned(frames)
            }
        }
    }

    /// The images in memory, where some can be added; those of a file are copied there first.
    pub fn to_mut(&mut self) -> &mut Frames {
        if let Self::Stored(_) = self {
            *self = Self::Held(self.frames().into_owned());
        }
        match self {
            Self::Held(frames) => frames,
            Self::Stored(_) => unreachable!("they were copied"),
        }
    }

    /// Gives back the memory that more images would have had.
    pub fn shrink_to_fit(&mut self) {
        if let Self::Held(frames) = self {
            frames.shrink_to_fit();
        }
    }
}

impl StoredImages {
    /// Observations that are read at once when all of them are.
    const PIECE: usize = 128;

    /// The images of a dataset of bytes `[count, C, H, W]`, or `[count, H, W, C]`, each of which can be read.
    pub fn open(
        dataset: Dataset,
        count: usize,
        shape: [usize; 3],
        channels_last: bool,
    ) -> Result<Self, String> {
        let stored = Self { dataset, shape, channels_last, count };
        for start in (0..count).step_by(Self::PIECE) {
            stored.read(start..count.min(start + Self::PIECE))?;
        }
        Ok(stored)
    }

    fn size(&self) -> usize {
        self.shape.iter().product()
    }

    fn read(&self, range: Range<usize>) -> Result<Vec<u8>, String> {
        let read = self.dataset.read_raw_rows(range.start as u64, range.len() as u64);
        let bytes = read.map_err(|error| hdf5_reason(&error))?;
        if bytes.len() != range.len() * self.size() {
            return Err(format!("{} bytes of {} images", bytes.len(), range.len()));
        }
        Ok(if self.channels_last { channels_first(&bytes, self.shape) } else { bytes })
    }
}

/// Images `[H, W, C]` as `[C, H, W]`.
fn channels_first(images: &[u8], [channels, height, width]: [usize; 3]) -> Vec<u8> {
    let area = height * width;
    let mut turned = vec![0; images.len()];
    for (from, to) in images.chunks(channels * area).zip(turned.chunks_mut(channels * area)) {
        for (place, pixel) in from.chunks(channels).enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                to[channel * area + place] = *value;
            }
        }
    }
    turned
}

impl From<Frames> for Images {
    fn from(frames: Frames) -> Self {
        Self::Held(frames)
    }
}

impl Default for Images {
    /// Those of an environment that shows none.
    fn default() -> Self {
        Self::Held(Frames::default())
    }
}

impl PartialEq for Images {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && (0..self.len()).all(|row| self.rows(row..row + 1) == other.rows(row..row + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_behind_height_and_width_come_first() {
        let [height, width, channels] = [2, 2, 3];
        // Pixel (y, x) of channel c is 100·c + 10·y + x.
        let image: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| (0..channels).map(move |c| 100 * c + 10 * y + x)))
            .collect();
        let twice = [image.clone(), image].concat();
        let once = [0, 1, 10, 11, 100, 101, 110, 111, 200, 201, 210, 211];
        assert_eq!(channels_first(&twice, [3, 2, 2]), [once, once].concat());
    }
}
