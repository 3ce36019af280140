//! Reading one episode of a Minari dataset: numbers of any type, within what the file can hold.

use eva_rl_envs::{ActionSpace, ImageLeaf, Leaf, Phase, Space};
use hdf5_pure::{ChunkCacheConfig, DatasetAccessProperties, Group, make_u8_type};

use super::checks::{check_actions, check_finite};
use super::images::{Images, StoredImages};
use super::numbers::Numbers;
use super::reading::{Reading, hdf5_reason};
use super::stored::{SUCCESS, Stored};
use super::trajectory::Trajectory;

/// What is known of a dataset while its episodes are read.
pub(super) struct Reader<'a> {
    pub space: &'a Space,
    /// The part of it that is kept apart as images.
    pub image: Option<ImageLeaf>,
    pub action: &'a ActionSpace,
    pub stored: &'a Stored,
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
        let rewards = self.stored.numbers(group, "rewards")?.all().into_owned();
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
        let mut actions = self.stored.numbers(group, "actions")?;
        wanted("actions", actions.len(), steps * self.action.width())?;
        let starts = self.action.starts();
        if starts.iter().any(|start| *start != 0) {
            let of_each = actions.to_mut().iter_mut().zip(starts.iter().cycle());
            of_each.for_each(|(action, start)| *action -= *start as f32);
        }
        let [terminations, truncations] = ["terminations", "truncations"].map(|name| {
            let flags = self.stored.flags(group, name)?;
            wanted(name, flags.len(), steps).map(|()| flags)
        });
        let (terminations, truncations) = (terminations?, truncations?);
        check_finite("observations", &observations.all(), observations.len() / (steps + 1), 0)?;
        check_finite("rewards", &rewards, 1, 0)?;
        let clipped = if self.reading.clip_actions { clip(self.action, &mut actions) } else { 0 };
        check_actions(self.action, &actions.all(), 0)?;
        let end = match (terminations[steps - 1], truncations[steps - 1]) {
            (true, _) => Phase::Terminated,
            (false, true) => Phase::Truncated,
            (false, false) => Phase::Running,
        };
        let succeeded = self.success(group);
        Ok(Episode {
            trajectory: Trajectory {
                observations,
                images,
                actions,
                rewards,
                infos: Vec::new(),
                end,
                succeeded,
            },
            clipped,
        })
    }

    /// The images of `rows` observations.
    fn images(&self, group: &Group, rows: usize) -> Result<Images, String> {
        let Some(ImageLeaf { leaf, shape, channels_last }) = self.image else { return Ok(Images::default()) };
        let leaves = self.space.leaves().map_err(|(_, other)| format!("holds {other}"))?;
        let name = path_of(&leaves[leaf]);
        self.stored.checked(group, &name)?;
        // A window touches each chunk once, and there are as many datasets as episodes.
        let uncached = ChunkCacheConfig::new().with_max_bytes(0);
        let properties = DatasetAccessProperties::new().with_chunk_cache(uncached);
        let open = || {
            let dataset = group.dataset_with_options(&name, properties)?;
            let (found, kind) = (dataset.shape()?, dataset.datatype()?);
            Ok((dataset, found, kind))
        };
        let unreadable = |reason: String| format!("`{name}` cannot be read as images: {reason}");
        let (dataset, found, kind) =
            open().map_err(|error: hdf5_pure::Error| unreadable(hdf5_reason(&error)))?;
        let [channels, height, width] = shape.map(|size| size as u64);
        let rows_of = |image: [u64; 3]| [rows as u64, image[0], image[1], image[2]];
        let expected =
            rows_of(if channels_last { [height, width, channels] } else { [channels, height, width] });
        if found != expected || kind != make_u8_type() {
            return Err(format!(
                "has `{name}` of {kind} with shape {found:?}, expected u8 with shape {expected:?}"
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
            let numbers = self.stored.numbers(group, "observations")?;
            return wanted("observations", numbers.len(), rows * width).map(|()| numbers);
        }
        self.stored.spend((rows * width * size_of::<f32>()) as u64)?;
        let mut flat = vec![0.0; rows * width];
        for leaf in leaves {
            let name = path_of(&leaf);
            if let Space::Text { .. } = leaf.space {
                let texts = self.stored.texts(group, &name)?;
                wanted(&name, texts.len(), rows)?;
                for (text, row) in texts.iter().zip(flat.chunks_mut(width)) {
                    leaf.flatten_text(text, row).map_err(|reason| format!("`{name}` {reason}"))?;
                }
                continue;
            }
            let recorded = self.stored.floats(group, &name)?;
            wanted(&name, recorded.len(), rows * leaf.recorded())?;
            for (recorded, row) in recorded.chunks(leaf.recorded().max(1)).zip(flat.chunks_mut(width)) {
                leaf.flatten(recorded, row).map_err(|reason| format!("`{name}` {reason}"))?;
            }
        }
        Ok(flat.into())
    }

    /// Whether a step's infos say that the episode has succeeded; none where they say nothing.
    fn success(&self, group: &Group) -> Option<bool> {
        SUCCESS.iter().find_map(|name| {
            let flags = self.stored.flags(group, &format!("infos/{name}")).ok()?;
            Some(flags.contains(&true))
        })
    }
}

/// Where an episode's group has a part of its observations.
fn path_of(leaf: &Leaf) -> String {
    let mut path = "observations".to_owned();
    leaf.path.iter().for_each(|key| path += &format!("/{key}"));
    path
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
