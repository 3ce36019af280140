//! An episode's observations as Minari keeps them: in the environment's own space, a dataset for each of its parts.

use eva_rl_envs::{ImageLeaf, Part, PartKind, Space};
use hdf5_pure::{DatasetBuilder, GroupBuilder, StagedGroup, make_u8_type};

use super::trajectory::Trajectory;

/// Images of a chunk. Deflate looks back 32 KB, where it finds the frames that the image before has shown.
const CHUNK: u64 = 8;

/// How hard images are compressed, of 9.
const DEFLATE: u32 = 4;

/// A group of a new file, or of one that is added to.
pub trait Place {
    /// Makes a dataset.
    fn dataset(&mut self, name: &str, build: &mut dyn FnMut(&mut DatasetBuilder));
    /// Makes a group, and fills it.
    fn group(&mut self, name: &str, fill: &mut dyn FnMut(&mut dyn Place));
}

impl Place for GroupBuilder {
    fn dataset(&mut self, name: &str, build: &mut dyn FnMut(&mut DatasetBuilder)) {
        build(self.create_dataset(name));
    }

    fn group(&mut self, name: &str, fill: &mut dyn FnMut(&mut dyn Place)) {
        let mut group = self.create_group(name);
        fill(&mut group);
        self.add_group(group.finish());
    }
}

impl Place for StagedGroup<'_> {
    fn dataset(&mut self, name: &str, build: &mut dyn FnMut(&mut DatasetBuilder)) {
        self.create_dataset(name, build);
    }

    fn group(&mut self, name: &str, fill: &mut dyn FnMut(&mut dyn Place)) {
        self.create_group_with(name, |group| fill(group));
    }
}

/// Writes the observations of `episode`, which are values of `space`, one part of which may be images kept apart.
pub fn fill(place: &mut dyn Place, space: &Space, image: Option<ImageLeaf>, episode: &Trajectory) {
    let parts = space.parts().expect("the space can be flattened");
    let mut parts = Parts { all: &parts, next: 0, apart: 0, image, episode };
    parts.fill(place, "observations", space);
}

/// Writes images `[N, C, H, W]` of bytes in chunks, compressed.
fn images(dataset: &mut DatasetBuilder, images: Vec<u8>, shape: &[usize]) {
    let size = shape.iter().product::<usize>().max(1);
    let (bytes, rows) = (images.len() as u64, (images.len() / size) as u64);
    let of_rows =
        |rows: u64| [&[rows], shape.iter().map(|side| *side as u64).collect::<Vec<_>>().as_slice()].concat();
    dataset.with_raw_data(make_u8_type(), images, bytes); // taken as they are, not copied
    dataset.with_shape(&of_rows(rows)).with_chunks(&of_rows(CHUNK.min(rows)));
    dataset.with_deflate(DEFLATE);
}

/// The parts of a space in their order, as they are written.
struct Parts<'a> {
    all: &'a [Part<'a>],
    /// Parts written.
    next: usize,
    /// Columns of the image, once it is written: rows have none for it.
    apart: usize,
    image: Option<ImageLeaf>,
    episode: &'a Trajectory,
}

impl Parts<'_> {
    fn fill(&mut self, place: &mut dyn Place, name: &str, space: &Space) {
        match space {
            Space::Tuple(spaces) => place.group(name, &mut |place| {
                for (index, space) in spaces.iter().enumerate() {
                    self.fill(place, &format!("_index_{index}"), space);
                }
            }),
            Space::Dict(spaces) => place.group(name, &mut |place| {
                for (name, space) in spaces {
                    self.fill(place, name, space);
                }
            }),
            _ => self.part(place, name),
        }
    }

    /// Writes the next part.
    fn part(&mut self, place: &mut dyn Place, name: &str) {
        let part = &self.all[self.next];
        let is_image = self.image.is_some_and(|image| image.leaf == self.next);
        self.next += 1;
        if let (true, PartKind::Image { shape, channels_last }) = (is_image, &part.kind) {
            self.apart = part.leaf.columns.len();
            place.dataset(name, &mut |dataset| {
                let all = self.episode.images.rows(0..self.episode.images.len());
                match (channels_last, shape) {
                    (false, shape) => images(dataset, all.into_owned(), shape),
                    (true, [channels, height, width]) => {
                        images(dataset, channels_behind(&all, *shape), &[*height, *width, *channels]);
                    }
                }
            });
            return;
        }
        let columns = part.leaf.columns.start - self.apart..part.leaf.columns.end - self.apart;
        let observations = self.episode.observations.all();
        let width = observations.len() / (self.episode.len() + 1);
        // Rows of this part alone, in which its columns begin at 0.
        let rows: Vec<&[f32]> = observations.chunks(width.max(1)).map(|row| &row[columns.clone()]).collect();
        let count = rows.len() as u64;
        let mut part = part.clone();
        part.leaf.columns = 0..columns.len();
        place.dataset(name, &mut |dataset| write(dataset, &part, &rows, count));
    }
}

/// Writes the rows of a part as values of its space.
fn write(dataset: &mut DatasetBuilder, part: &Part, rows: &[&[f32]], count: u64) {
    let shaped = |shape: &[usize]| -> Vec<u64> {
        [count].into_iter().chain(shape.iter().map(|side| *side as u64)).collect()
    };
    let whole = || {
        rows.iter().flat_map(|row| part.leaf.unflatten(row)).map(|number| number as i64).collect::<Vec<_>>()
    };
    match part.leaf.space {
        Space::Box { shape, .. } if matches!(part.kind, PartKind::Image { .. }) => {
            let bytes: Vec<u8> = rows.concat().into_iter().map(|number| number as u8).collect();
            images(dataset, bytes, shape);
        }
        Space::Text { .. } => {
            let texts: Vec<String> = rows.iter().map(|row| part.text(row).expect("it is a text")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            dataset.with_vlen_strings(&texts);
        }
        Space::Discrete { .. } => {
            dataset.with_i64_data(&whole());
        }
        Space::MultiDiscrete { counts, .. } => {
            dataset.with_i64_data(&whole()).with_shape(&shaped(&[counts.len()]));
        }
        Space::MultiBinary { shape } => {
            let flags: Vec<i8> = whole().into_iter().map(|flag| flag as i8).collect();
            dataset.with_i8_data(&flags).with_shape(&shaped(shape));
        }
        Space::Box { shape, dtype, .. } => {
            let shape = shaped(shape);
            match dtype.as_str() {
                "uint8" => {
                    let bytes: Vec<u8> = rows.concat().into_iter().map(|number| number as u8).collect();
                    dataset.with_u8_data(&bytes).with_shape(&shape);
                }
                "float64" => {
                    let numbers: Vec<f64> = rows.concat().into_iter().map(f64::from).collect();
                    dataset.with_f64_data(&numbers).with_shape(&shape);
                }
                dtype if dtype.starts_with("float") => {
                    dataset.with_f32_data(&rows.concat()).with_shape(&shape);
                }
                _ => {
                    dataset.with_i64_data(&whole()).with_shape(&shape);
                }
            }
        }
        Space::Tuple(_) | Space::Dict(_) | Space::Other(_) => unreachable!("it is no leaf"),
    }
}

/// Images `[C, H, W]` as `[H, W, C]`.
fn channels_behind(images: &[u8], [channels, height, width]: [usize; 3]) -> Vec<u8> {
    let area = height * width;
    let mut turned = vec![0; images.len()];
    for (from, to) in images.chunks(channels * area).zip(turned.chunks_mut(channels * area)) {
        for (channel, from) in from.chunks(area).enumerate() {
            for (place, value) in from.iter().enumerate() {
                to[place * channels + channel] = *value;
            }
        }
    }
    turned
}
