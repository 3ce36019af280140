//! Reading one episode of a Minari dataset: numbers of any type, within what the file can hold.

use std::cell::Cell;

use eva_rl_envs::{ActionSpace, ImageLeaf, Leaf, Phase, Space};
use half::f16;
use hdf5_pure::{
    ChunkCacheConfig, DatasetAccessProperties, Datatype, DatatypeByteOrder, Group, Layout, make_f32_type,
    make_u8_type,
};

use super::images::{Images, StoredImages};
use super::numbers::{MappedFile, Numbers};
use super::reading::{Reading, one_line};
use super::trajectory::Trajectory;

/// Numbers of a chunk that may be larger than its dataset.
const MAX_CHUNK: u64 = 1 << 20;

/// Names of what says, in an episode's infos, that it has succeeded.
const SUCCESS: [&str; 2] = ["success", "is_success"];

/// What is known of a dataset while its episodes are read.
pub(super) struct Reader<'a> {
    pub space: &'a Space,
    /// The part of it that is kept apart as images.
    pub image: Option<ImageLeaf>,
    pub action: &'a ActionSpace,
    pub file: &'a MappedFile,
    /// Bytes that the file's episodes may still come to: names may lead to the same numbers again and again.
    pub budget: &'a Cell<u64>,
    pub reading: Reading,
}

/// An episode, and what is said of it.
pub(super) struct Episode {
    pub trajectory: Trajectory,
    /// Action numbers that were outside of their Box.
    pub clipped: usize,
}

impl Reader<'_> {
    /// An episode from its group, checked.
    pub fn episode(&self, group: &Group) -> Result<Episode, String> {
        let rewards = self.numbers(group, "rewards")?.all().into_owned();
        let steps = rewards.len();
        if steps == 0 {
            return Err("has no steps, expected at least one".to_owned());
        }
        let wanted = |name: &str, found: usize, wanted: usize| match found == wanted {
            true => Ok(()),
            false => Err(format!("has {found} numbers in `{name}`, expected {wanted} for {steps} rewards")),
        };
        let observations = self.observations(group, steps + 1, &wanted)?;
        let images = self.images(group, steps + 1)?;
        let mut actions = self.numbers(group, "actions")?;
        wanted("actions", actions.len(), steps * self.action.width())?;
        let starts = self.action.starts();
        if starts.iter().any(|start| *start != 0) {
            let of_each = actions.to_mut().iter_mut().zip(starts.iter().cycle());
            of_each.for_each(|(action, start)| *action -= *start as f32);
        }
        let [terminations, truncations] = ["terminations", "truncations"].map(|name| {
            let flags = self.flags(group, name)?;
            wanted(name, flags.len(), steps).map(|()| flags)
        });
        let (terminations, truncations) = (terminations?, truncations?);
        check_finite("observations", &observations.all(), observations.len() / (steps + 1))?;
        check_finite("rewards", &rewards, 1)?;
        let clipped = if self.reading.clip_actions { clip(self.action, &mut actions) } else { 0 };
        check_actions(self.action, &actions.all())?;
        let end = match (terminations[steps - 1], truncations[steps - 1]) {
            (true, _) => Phase::Terminated,
            (false, true) => Phase::Truncated,
            (false, false) => Phase::Running,
        };
        let succeeded = self.success(group);
        Ok(Episode {
            trajectory: Trajectory { observations, images, actions, rewards, end, succeeded },
            clipped,
        })
    }

    /// The images of `rows` observations.
    fn images(&self, group: &Group, rows: usize) -> Result<Images, String> {
        let Some(ImageLeaf { leaf, shape, channels_last }) = self.image else { return Ok(Images::default()) };
        let leaves = self.space.leaves().map_err(|(_, other)| format!("holds {other}"))?;
        let name = path_of(&leaves[leaf]);
        self.checked(group, &name)?;
        // A window touches each chunk once, and there are as many datasets as episodes.
        let uncached = ChunkCacheConfig::new().with_max_bytes(0);
        let properties = DatasetAccessProperties::new().with_chunk_cache(uncached);
        let open = || {
            let dataset = group.dataset_with_options(&name, properties)?;
            let (found, kind) = (dataset.shape()?, dataset.datatype()?);
            Ok((dataset, found, kind))
        };
        let unreadable = |reason: String| format!("`{name}` cannot be read as images: {}", one_line(&reason));
        let (dataset, found, kind) =
            open().map_err(|error: hdf5_pure::Error| unreadable(error.to_string()))?;
        let [channels, height, width] = shape.map(|size| size as u64);
        let rows_of = |image: [u64; 3]| [rows as u64, image[0], image[1], image[2]];
        let expected =
            rows_of(if channels_last { [height, width, channels] } else { [channels, height, width] });
        if found != expected || kind != make_u8_type() {
            return Err(format!(
                "has `{name}` of {kind} with shape {found:?}, expected uint8 with shape {expected:?}"
            ));
        }
        StoredImages::open(dataset, rows, shape, channels_last).map(Images::Stored).map_err(unreadable)
    }

    /// `rows` observations, flattened; without the image where that is kept apart.
    fn observations(
        &self,
        group: &Group,
        rows: usize,
        wanted: &dyn Fn(&str, usize, usize) -> Result<(), String>,
    ) -> Result<Numbers, String> {
        let mut leaves = self.space.leaves().map_err(|(_, other)| format!("holds {other}"))?;
        if let Some(image) = self.image {
            let apart = leaves.remove(image.leaf).columns.len();
            for leaf in &mut leaves[image.leaf..] {
                leaf.columns = leaf.columns.start - apart..leaf.columns.end - apart;
            }
        }
        let width = leaves.last().map_or(0, |leaf| leaf.columns.end);
        if let [leaf] = leaves.as_slice()
            && leaf.path.is_empty()
            && leaf.recorded() == width
        {
            let numbers = self.numbers(group, "observations")?;
            return wanted("observations", numbers.len(), rows * width).map(|()| numbers);
        }
        self.spend((rows * width * size_of::<f32>()) as u64)?;
        let mut flat = vec![0.0; rows * width];
        for leaf in leaves {
            let name = path_of(&leaf);
            let recorded = self.floats(group, &name)?;
            wanted(&name, recorded.len(), rows * leaf.recorded())?;
            for (recorded, row) in recorded.chunks(leaf.recorded().max(1)).zip(flat.chunks_mut(width)) {
                leaf.flatten(recorded, row).map_err(|reason| format!("`{name}` {reason}"))?;
            }
        }
        Ok(flat.into())
    }

    /// A float or integer dataset of any shape, in row order.
    fn numbers(&self, group: &Group, name: &str) -> Result<Numbers, String> {
        let mapped = || -> Result<Option<Numbers>, hdf5_pure::Error> {
            let dataset = group.dataset(name)?;
            if let Layout::Contiguous { address: Some(address), size } = dataset.layout()?
                && dataset.datatype()? == make_f32_type()
            {
                return Ok(self.file.numbers(address, size));
            }
            Ok(None)
        };
        match mapped() {
            Ok(Some(numbers)) => Ok(numbers),
            _ => Ok(self.floats(group, name)?.into_iter().map(|x| x as f32).collect()),
        }
    }

    fn floats(&self, group: &Group, name: &str) -> Result<Vec<f64>, String> {
        let dataset = self.checked(group, name)?;
        let numbers = match dataset.datatype() {
            Ok(Datatype::FloatingPoint { size: 2, byte_order, .. }) => {
                dataset.read_raw().map(|bytes| halves(&bytes, byte_order))
            }
            _ => dataset.read_f64(),
        };
        numbers
            .map_err(|error| format!("`{name}` cannot be read as numbers: {}", one_line(&error.to_string())))
    }

    /// Booleans, which h5py keeps as an enumeration of one byte, or numbers of any type that are 0 or not.
    fn flags(&self, group: &Group, name: &str) -> Result<Vec<bool>, String> {
        let dataset = self.checked(group, name)?;
        let flags = if dataset.element_size().ok() == Some(1) {
            dataset.read_raw().map(|bytes| bytes.into_iter().map(|byte| byte != 0).collect())
        } else {
            dataset.read_f64().map(|numbers| numbers.into_iter().map(|number| number != 0.0).collect())
        };
        flags
            .map_err(|error| format!("`{name}` cannot be read as booleans: {}", one_line(&error.to_string())))
    }

    /// Whether a step's infos say that the episode has succeeded; none where they say nothing.
    fn success(&self, group: &Group) -> Option<bool> {
        SUCCESS.iter().find_map(|name| {
            let flags = self.flags(group, &format!("infos/{name}")).ok()?;
            Some(flags.contains(&true))
        })
    }

    /// A dataset whose size can be believed: damaged bytes may ask for petabytes.
    fn checked(&self, group: &Group, name: &str) -> Result<hdf5_pure::Dataset, String> {
        let numbers = |sides: Vec<u64>| sides.into_iter().try_fold(1_u64, u64::checked_mul);
        let checked = || -> Result<_, hdf5_pure::Error> {
            let dataset = group.dataset(name)?;
            let (values, size) = (numbers(dataset.shape()?), dataset.element_size()?);
            let chunk = numbers(dataset.chunk_shape()?.unwrap_or_default());
            Ok((dataset, values, chunk, size))
        };
        let unreadable = |error: hdf5_pure::Error| {
            let reason = one_line(&error.to_string());
            let newer = if reason.contains("data layout version") {
                "; HDF5 2.0 writes that where h5py is given libver=\"latest\"; what libver=\"v114\" writes is read"
            } else {
                ""
            };
            format!("`{name}` cannot be read: {reason}{newer}")
        };
        let (dataset, values, chunk, size) = checked().map_err(unreadable)?;
        let too_large = || format!("`{name}` is more than the file can hold");
        let (values, chunk) = values.zip(chunk).ok_or_else(too_large)?;
        if chunk > values.max(MAX_CHUNK) || size > 8 {
            return Err(too_large());
        }
        self.spend(values.checked_mul(size).ok_or_else(too_large)?).map_err(|_| too_large())?;
        Ok(dataset)
    }

    /// Takes bytes off what the file may come to.
    fn spend(&self, bytes: u64) -> Result<(), String> {
        let left = self.budget.get().checked_sub(bytes);
        self.budget.set(left.ok_or("the dataset is more than its file can hold")?);
        Ok(())
    }
}

/// Where an episode's group has a part of its observations.
fn path_of(leaf: &Leaf) -> String {
    let mut path = "observations".to_owned();
    leaf.path.iter().for_each(|key| path += &format!("/{key}"));
    path
}

/// float16, which the HDF5 crate does not convert.
fn halves(bytes: &[u8], order: DatatypeByteOrder) -> Vec<f64> {
    let (pairs, _) = bytes.as_chunks::<2>();
    let half = |pair: &[u8; 2]| match order {
        DatatypeByteOrder::BigEndian => f16::from_be_bytes(*pair),
        _ => f16::from_le_bytes(*pair),
    };
    pairs.iter().map(|pair| half(pair).to_f64()).collect()
}

/// Clips actions to their Box, and says how many numbers were outside.
fn clip(space: &ActionSpace, actions: &mut Numbers) -> usize {
    let ActionSpace::Box { low, high } = space else { return 0 };
    let bounds = low.iter().zip(high).cycle();
    let outside = |(x, (low, high)): (&f32, (&f32, &f32))| x < low || x > high;
    let count = actions.all().iter().zip(bounds.clone()).filter(|pair| outside(*pair)).count();
    if count > 0 {
        actions.to_mut().iter_mut().zip(bounds).for_each(|(x, (low, high))| *x = x.clamp(*low, *high));
    }
    count
}

fn check_finite(name: &str, numbers: &[f32], width: usize) -> Result<(), String> {
    match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(format!(
            "has {} in `{name}` at step {}, dimension {}, expected a finite number",
            numbers[at],
            at / width,
            at % width
        )),
    }
}

fn check_actions(space: &ActionSpace, actions: &[f32]) -> Result<(), String> {
    for (step, row) in actions.chunks(space.width()).enumerate() {
        eva_rl_envs::check_actions(space, row).map_err(|error| match error {
            eva_rl_envs::EnvError::DiscreteAction { value, actions, .. } => {
                format!("has action {value} at step {step}, expected a whole number in 0..{actions}")
            }
            eva_rl_envs::EnvError::MultiDiscreteAction { dimension, value, actions, .. } => format!(
                "has action {value} at step {step}, dimension {dimension}, expected a whole number in 0..{actions}"
            ),
            eva_rl_envs::EnvError::BoxAction { dimension, value, low, high, .. } => format!(
                "has action {value} at step {step}, dimension {dimension}, expected {low}..={high}"
            ),
            other => other.to_string(),
        })?;
    }
    Ok(())
}
