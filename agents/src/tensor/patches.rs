//! Patches of images, which are what a convolution multiplies by its kernel.

use rand::RngCore;
use rand::seq::index;
use tch::{Device, Kind, Tensor};

use super::Rows;

/// The images that a convolution without padding reads, seen as patches: one for each place of its kernel.
#[derive(Debug)]
pub struct Patches {
    /// `[N, C, H, W]`.
    images: Tensor,
    kernel: [i64; 2],
    stride: i64,
}

impl Patches {
    /// The patches of `images` `[N, C, H, W]` that a `kernel` `[height, width]` meets at this stride.
    pub fn of(images: &Tensor, kernel: [i64; 2], stride: i64) -> Self {
        Self { images: images.shallow_clone(), kernel, stride }
    }

    /// `[N, C, H, W]`.
    pub fn images(&self) -> &Tensor {
        &self.images
    }

    /// How many there are in an image: down and across.
    fn places(&self) -> [i64; 2] {
        let (_, _, height, width) = self.images.size4().expect("images are [N, C, H, W]");
        let along = |side: i64, kernel: i64| (side - kernel) / self.stride + 1;
        [along(height, self.kernel[0]), along(width, self.kernel[1])]
    }

    /// Patches of the images `of` `[M]`, or of all, as rows whose numbers are ordered as a kernel's: `[M · count, in]`
    /// at `count` places of each image, another draw for each; at all places where there are no more.
    pub fn rows(&self, of: Option<&Tensor>, count: usize, rng: &mut impl RngCore) -> Rows {
        let [down, across] = self.places();
        let places = (down * across) as usize;
        let all = || Tensor::arange(self.images.size()[0], (Kind::Int64, Device::Cpu));
        let images =
            Vec::<i64>::try_from(of.map_or_else(all, Tensor::shallow_clone)).expect("indices are whole");
        let count = count.min(places);
        let [mut image_of, mut down_of, mut across_of] =
            [(); 3].map(|()| Vec::with_capacity(images.len() * count));
        for image in images {
            for place in index::sample(rng, places, count) {
                image_of.push(image);
                down_of.push(place as i64 / across);
                across_of.push(place as i64 % across);
            }
        }
        let index = |indices: &Vec<i64>| Some(Tensor::from_slice(indices).to_device(self.images.device()));
        let [height, width] = self.kernel;
        let patches = self.images.unfold(2, height, self.stride).unfold(3, width, self.stride); // [N, C, H', W', h, w]
        let patches = patches.permute([0, 2, 3, 1, 4, 5]).index(&[
            index(&image_of),
            index(&down_of),
            index(&across_of),
        ]); // [M · count, C, h, w]
        Rows::of(&patches.flatten(1, -1))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn images() -> Tensor {
        Tensor::arange(3 * 2 * 7 * 9, (Kind::Float, Device::Cpu)).view([3, 2, 7, 9])
    }

    fn rows(of: Option<&Tensor>, count: usize, seed: u64) -> Tensor {
        let patches = Patches::of(&images(), [3, 4], 2);
        patches.rows(of, count, &mut SmallRng::seed_from_u64(seed)).dense().shallow_clone()
    }

    /// The rows in the order of their first numbers, which no two patches share.
    fn sorted(rows: &Tensor) -> Tensor {
        rows.index_select(0, &rows.select(1, 0).argsort(0, false))
    }

    #[test]
    fn all_places_are_what_libtorch_unfolds() {
        let unfolded = images().im2col([3, 4], [1, 1], [0, 0], [2, 2]).transpose(1, 2).flatten(0, 1); // [N · P, in]
        assert_eq!(sorted(&rows(None, 100, 1)), sorted(&unfolded));
    }

    #[test]
    fn a_few_are_other_places_of_each_image_that_counts() {
        let counted = Tensor::from_slice(&[0i64, 2]);
        let some = rows(Some(&counted), 4, 1); // [2 · 4, in]
        let starts: Vec<f64> = Vec::try_from(some.select(1, 0).to_kind(Kind::Double)).unwrap();
        let (earlier, later) = starts.split_at(4);
        assert!(earlier.iter().all(|start| *start < 126.0) && later.iter().all(|start| *start >= 252.0));
        let mut different = starts.clone();
        different.sort_by(f64::total_cmp);
        different.dedup();
        assert_eq!(different.len(), 8);
        assert_eq!(some, rows(Some(&counted), 4, 1));
        assert_ne!(some, rows(Some(&counted), 4, 2));
    }
}
