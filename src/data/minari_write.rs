//! Writing Minari datasets, so that Python's `minari` loads them and recovers the environment.

use std::fs;
use std::path::Path;

use eva_rl_envs::{ActionSpace, EnvSpec, ImageLeaf, Kwargs, Phase, Space};
use hdf5_pure::{AttrValue, EnumTypeBuilder, File, FileBuilder, GroupBuilder, StagedGroup, make_i8_type};
use serde_json::{Map, Value, json};

use super::minari_observations::Place;
use super::stored::SUCCESS;
#[cfg(test)]
use super::trajectory::Dataset;
use super::trajectory::Trajectory;
use super::{minari_observations, minari_space};
use crate::support::atomic::write_folder;

/// The format's version that this writes, as `minari` names it.
const MINARI_VERSION: &str = "0.5.4";

/// What makes an environment of Gymnasium's registry by its id.
const GYMNASIUM_MAKE: &str = "gymnasium:make";

/// Names the environment where no `env_spec` can: Gymnasium's `make` breaks EnvPool's batches, whose own `spec`
/// it replaces, so minari says that there is none.
const OWN_KEY: &str = "eva_rl_env";

/// Says of whom minari's `ref_max_score` is.
pub(super) const REFERENCE_KEY: &str = "eva_rl_reference_scores";

/// Bytes of episodes that are held before they are written.
const BATCH: usize = if cfg!(test) { 1 << 14 } else { 64 << 20 };

/// What is said of a dataset as a whole.
#[derive(Debug)]
pub struct DatasetFacts<'a> {
    /// Numbers in an observation, its image aside.
    pub observation_width: usize,
    /// The environment's own space of observations, where that is not a row of numbers.
    pub space: Option<&'a Space>,
    /// Whether images are kept apart from an observation's numbers.
    pub image: bool,
    /// What an action is.
    pub action: &'a ActionSpace,
    /// Who acted.
    pub algorithm: &'a str,
    /// Where it was recorded, if that is known.
    pub env: Option<RecordedEnv<'a>>,
    /// Episodes and steps.
    pub size: (usize, usize),
}

/// The environment of a dataset.
#[derive(Clone, Copy, Debug)]
pub struct RecordedEnv<'a> {
    /// Its contract.
    pub spec: &'a EnvSpec,
    /// Its id, as this program names it.
    pub id: &'a str,
    /// Its options.
    pub kwargs: &'a Kwargs,
    /// The Python modules of which one may have registered it.
    pub imports: &'a [String],
}

/// Writes a dataset in memory.
#[cfg(test)]
pub fn write(
    dataset: &Dataset,
    spec: Option<&EnvSpec>,
    imports: &[String],
    path: &Path,
) -> anyhow::Result<()> {
    let env = spec.zip(dataset.env.as_ref());
    let facts = DatasetFacts {
        observation_width: dataset.observation_width,
        space: dataset.space.as_ref(),
        image: dataset.image.is_some(),
        action: &dataset.action,
        algorithm: &dataset.algorithm,
        env: env.map(|(spec, (id, kwargs))| RecordedEnv { spec, id, kwargs, imports }),
        size: (dataset.trajectories.len(), dataset.steps()),
    };
    write_episodes(&facts, dataset.trajectories.iter().cloned().map(Ok), path)
}

impl DatasetFacts<'_> {
    /// The part of an observation that is images kept apart.
    fn image_leaf(&self) -> Option<ImageLeaf> {
        self.space.filter(|_| self.image).and_then(Space::image)
    }
}

/// Writes a dataset into `path`, which must not exist: whole or not at all.
pub fn write_episodes(
    facts: &DatasetFacts,
    episodes: impl Iterator<Item = anyhow::Result<Trajectory>>,
    path: &Path,
) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    write_folder(path, |folder| {
        fs::create_dir(folder.join("data"))?;
        let hdf5 = folder.join("data/main_data.hdf5");
        let (mut episodes, mut written) = (episodes.peekable(), 0);
        while written == 0 || episodes.peek().is_some() {
            written = add(facts, &hdf5, written, &mut episodes)?;
        }
        let bytes = fs::metadata(&hdf5)?.len();
        fs::write(folder.join("data/metadata.json"), metadata(facts, &dataset_id(&name), bytes))?;
        Ok(())
    })
}

/// Adds a batch of episodes from number `first` on to an HDF5 file, which begins with number 0; gives the number of
/// the next. Adding looks through all episodes that the file has, so batches are large.
fn add(
    facts: &DatasetFacts,
    path: &Path,
    first: usize,
    episodes: &mut dyn Iterator<Item = anyhow::Result<Trajectory>>,
) -> anyhow::Result<usize> {
    let (mut number, mut bytes) = (first, 0);
    let mut next = || -> anyhow::Result<Option<(usize, Trajectory)>> {
        if bytes >= BATCH {
            return Ok(None);
        }
        let Some(episode) = episodes.next().transpose()? else { return Ok(None) };
        bytes += (episode.observations.len() + episode.actions.len() + 3 * episode.len()) * size_of::<f32>();
        bytes += episode.images.len() * episode.images.size();
        number += 1;
        Ok(Some((number - 1, episode)))
    };
    if first == 0 {
        let mut file = FileBuilder::new();
        while let Some((number, episode)) = next()? {
            let mut group = file.create_group(&format!("episode_{number}"));
            fill(&mut group, facts, number, &episode)?;
            file.add_group(group.finish());
        }
        file.write(path)?;
        return Ok(number);
    }
    let file = File::open_rw(path)?;
    while let Some((number, episode)) = next()? {
        let mut filled = Ok(());
        file.root().create_group_with(&format!("episode_{number}"), |group| {
            filled = fill(group, facts, number, &episode);
        })?;
        filled?;
    }
    file.commit()?;
    Ok(number)
}

/// A group whose attributes can be set.
trait Attributes {
    fn attribute(&mut self, name: &str, value: AttrValue);
}

impl Attributes for GroupBuilder {
    fn attribute(&mut self, name: &str, value: AttrValue) {
        self.set_attr(name, value);
    }
}

impl Attributes for StagedGroup<'_> {
    fn attribute(&mut self, name: &str, value: AttrValue) {
        self.set_attr(name, value);
    }
}

/// Fills an episode's group.
fn fill(
    group: &mut (impl Place + Attributes),
    facts: &DatasetFacts,
    number: usize,
    episode: &Trajectory,
) -> anyhow::Result<()> {
    let steps = episode.len() as u64;
    group.attribute("id", AttrValue::I64(number as i64));
    group.attribute("total_steps", AttrValue::I64(steps as i64));
    match facts.space {
        Some(space) => minari_observations::fill(group, space, facts.image_leaf(), episode),
        None => {
            let width = facts.observation_width as u64;
            group.dataset("observations", &mut |dataset| {
                let observations = episode.observations.all();
                let rows = observations.len() as u64 / width;
                dataset.with_f32_data(&observations).with_shape(&[rows, width]);
            });
        }
    }
    group.dataset("actions", &mut |dataset| {
        let actions = episode.actions.all();
        let shape = [actions.len() as u64 / facts.action.width() as u64, facts.action.width() as u64];
        match facts.action {
            ActionSpace::Discrete { .. } => {
                dataset.with_i64_data(&indices(&actions, facts.action.starts()));
            }
            ActionSpace::MultiDiscrete { starts, .. } => {
                dataset.with_i64_data(&indices(&actions, starts)).with_shape(&shape);
            }
            ActionSpace::Box { .. } => {
                dataset.with_f32_data(&actions).with_shape(&shape);
            }
        }
    });
    let rewards: Vec<f64> = episode.rewards.iter().map(|reward| f64::from(*reward)).collect();
    group.dataset("rewards", &mut |dataset| {
        dataset.with_f64_data(&rewards);
    });
    let boolean = EnumTypeBuilder::with_base(make_i8_type()).value("FALSE", 0).value("TRUE", 1).build()?;
    for (name, end) in [("terminations", Phase::Terminated), ("truncations", Phase::Truncated)] {
        let flags = ending(episode, end);
        group.dataset(name, &mut |dataset| {
            dataset.with_enum_u8_data(boolean.clone(), &flags);
        });
    }
    group.group("infos", &mut |infos| {
        let names = facts.env.map_or(&[][..], |env| &env.spec.infos);
        for (column, name) in names.iter().enumerate() {
            if SUCCESS.contains(&name.as_str()) || episode.infos.is_empty() {
                continue;
            }
            let told = episode.infos.iter().skip(column).step_by(names.len());
            // Nobody kept what the reset told.
            let told: Vec<f32> = std::iter::once(f32::NAN).chain(told.copied()).collect();
            infos.dataset(name, &mut |dataset| {
                dataset.with_f32_data(&told);
            });
        }
        let Some(succeeded) = episode.succeeded else { return };
        // Infos have a row for the reset, too.
        let mut flags = vec![0; episode.len() + 1];
        flags[episode.len()] = u8::from(succeeded);
        infos.dataset(SUCCESS[0], &mut |dataset| {
            dataset.with_enum_u8_data(boolean.clone(), &flags);
        });
    });
    Ok(())
}

/// Minari's names end in a version.
fn dataset_id(name: &str) -> String {
    let versioned = name.rsplit_once("-v").is_some_and(|(_, version)| version.parse::<u32>().is_ok());
    if versioned { name.to_owned() } else { format!("{name}-v0") }
}

/// Discrete actions as their environment names them: the first of each dimension by its start.
fn indices(actions: &[f32], starts: &[i64]) -> Vec<i64> {
    actions.iter().zip(starts.iter().cycle()).map(|(action, start)| *action as i64 + start).collect()
}

/// h5py's booleans, true at the last step alone, where the episode ended so.
fn ending(episode: &Trajectory, end: Phase) -> Vec<u8> {
    let mut flags = vec![0; episode.len()];
    if let Some(last) = flags.last_mut() {
        *last = u8::from(episode.end == end);
    }
    flags
}

/// `data/metadata.json` of a dataset whose HDF5 file has so many bytes.
fn metadata(facts: &DatasetFacts, dataset_id: &str, bytes: u64) -> String {
    let mut metadata = Map::new();
    metadata.insert("total_episodes".to_owned(), json!(facts.size.0));
    metadata.insert("total_steps".to_owned(), json!(facts.size.1));
    metadata.insert("data_format".to_owned(), json!("hdf5"));
    metadata.insert("jpeg_encoding".to_owned(), json!(false));
    let observation = match (facts.space, facts.env) {
        (Some(space), _) => minari_space::of_space(space),
        (None, Some(RecordedEnv { spec, .. })) => {
            minari_space::of_vectors(&spec.observation_low, &spec.observation_high)
        }
        (None, None) => {
            let bound = vec![f32::INFINITY; facts.observation_width];
            let low: Vec<f32> = bound.iter().map(|x| -x).collect();
            minari_space::of_vectors(&low, &bound)
        }
    };
    metadata.insert("observation_space".to_owned(), Value::String(observation));
    metadata.insert("action_space".to_owned(), Value::String(minari_space::of_actions(facts.action)));
    if let Some(RecordedEnv { spec, id, kwargs, imports }) = facts.env {
        if let Some(Recovery { id, entry_point, kwargs }) = recovery(id, kwargs, imports) {
            let env_spec = json!({
                "id": id,
                "entry_point": entry_point,
                "reward_threshold": spec.reward_threshold,
                "nondeterministic": false,
                "max_episode_steps": spec.max_episode_steps,
                "order_enforce": true,
                "disable_env_checker": false,
                "kwargs": kwargs,
                "additional_wrappers": [],
                "vector_entry_point": null,
            });
            metadata.insert("env_spec".to_owned(), Value::String(env_spec.to_string()));
        }
        if id.starts_with("envpool:") {
            metadata.insert(OWN_KEY.to_owned(), json!({ "id": id, "kwargs": kwargs }));
        }
        if let Some(reference) = spec.reference {
            metadata.insert("ref_min_score".to_owned(), json!(reference.random));
            metadata.insert("ref_max_score".to_owned(), json!(reference.expert));
            metadata.insert(REFERENCE_KEY.to_owned(), json!(reference));
        }
    }
    let megabytes = (bytes as f64 / 1e5).round() / 10.0;
    metadata.insert("dataset_size".to_owned(), json!(megabytes));
    metadata.insert("dataset_id".to_owned(), json!(dataset_id));
    metadata.insert("author".to_owned(), json!(["eva-rl"]));
    metadata.insert("algorithm_name".to_owned(), json!(facts.algorithm));
    metadata.insert("minari_version".to_owned(), json!(MINARI_VERSION));
    Value::Object(metadata).to_string() + "\n"
}

/// How Python makes the environment again.
#[derive(Debug, PartialEq)]
struct Recovery {
    id: String,
    entry_point: String,
    kwargs: Kwargs,
}

/// What `recover_environment` finds: Gymnasium's class of a native task, or the function that makes one of its
/// registry by its id. Nothing for EnvPool's, and for a user's own in Rust, which Python does not have.
fn recovery(id: &str, kwargs: &Kwargs, imports: &[String]) -> Option<Recovery> {
    if let Some(plain) = id.strip_prefix("gymnasium:") {
        // Gymnasium imports the module before the colon, which registers the environment.
        let full = match imports.first().filter(|_| !plain.contains(':')) {
            Some(module) => format!("{module}:{plain}"),
            None => plain.to_owned(),
        };
        let mut kwargs = kwargs.clone();
        kwargs.insert("id".to_owned(), full.into());
        return Some(Recovery { id: plain.to_owned(), entry_point: GYMNASIUM_MAKE.to_owned(), kwargs });
    }
    let class = match id {
        "CartPole-v1" => "classic_control.cartpole:CartPoleEnv",
        "Pendulum-v1" => "classic_control.pendulum:PendulumEnv",
        "MountainCar-v0" => "classic_control.mountain_car:MountainCarEnv",
        "MountainCarContinuous-v0" => "classic_control.continuous_mountain_car:Continuous_MountainCarEnv",
        "Acrobot-v1" => "classic_control.acrobot:AcrobotEnv",
        "Ant-v5" => "mujoco.ant_v5:AntEnv",
        "HalfCheetah-v5" => "mujoco.half_cheetah_v5:HalfCheetahEnv",
        "Hopper-v5" => "mujoco.hopper_v5:HopperEnv",
        "Humanoid-v5" => "mujoco.humanoid_v5:HumanoidEnv",
        "HumanoidStandup-v5" => "mujoco.humanoidstandup_v5:HumanoidStandupEnv",
        "InvertedDoublePendulum-v5" => "mujoco.inverted_double_pendulum_v5:InvertedDoublePendulumEnv",
        "InvertedPendulum-v5" => "mujoco.inverted_pendulum_v5:InvertedPendulumEnv",
        "Pusher-v5" => "mujoco.pusher_v5:PusherEnv",
        "Reacher-v5" => "mujoco.reacher_v5:ReacherEnv",
        "Swimmer-v5" => "mujoco.swimmer_v5:SwimmerEnv",
        "Walker2d-v5" => "mujoco.walker2d_v5:Walker2dEnv",
        _ => return None,
    };
    let entry_point = format!("gymnasium.envs.{class}");
    Some(Recovery { id: id.to_owned(), entry_point, kwargs: kwargs.clone() })
}

/// The environment that a dataset's metadata name, as this program names it; `env_spec` is theirs, parsed.
pub(super) fn env_of(metadata: &Value, env_spec: Option<&Value>) -> Option<(String, Kwargs)> {
    let named = metadata.get(OWN_KEY).or(env_spec)?;
    let id = named["id"].as_str()?.to_owned();
    let mut kwargs: Kwargs = serde_json::from_value(named["kwargs"].clone()).unwrap_or_default();
    if named["entry_point"] == GYMNASIUM_MAKE {
        kwargs.remove("id");
        return Some((format!("gymnasium:{id}"), kwargs));
    }
    Some((id, kwargs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(id: &str, imports: &[&str], entry_point: &str, written: Value) {
        let kwargs = Kwargs::from_iter([("size".to_owned(), json!(5))]);
        let imports: Vec<String> = imports.iter().map(ToString::to_string).collect();
        let found = recovery(id, &kwargs, &imports).unwrap();
        assert_eq!((found.entry_point.as_str(), json!(found.kwargs)), (entry_point, written));
        let env_spec = json!({ "id": found.id, "entry_point": found.entry_point, "kwargs": found.kwargs });
        assert_eq!(env_of(&json!({}), Some(&env_spec)), Some((id.to_owned(), kwargs)));
    }

    #[test]
    fn every_environment_is_recovered_and_read_back_by_its_own_name() {
        check(
            "CartPole-v1",
            &[],
            "gymnasium.envs.classic_control.cartpole:CartPoleEnv",
            json!({ "size": 5 }),
        );
        check("Hopper-v5", &[], "gymnasium.envs.mujoco.hopper_v5:HopperEnv", json!({ "size": 5 }));
        check("gymnasium:Taxi-v3", &[], "gymnasium:make", json!({ "size": 5, "id": "Taxi-v3" }));
        let imported = json!({ "size": 5, "id": "my_envs:Mine-v0" });
        check("gymnasium:Mine-v0", &["my_envs"], "gymnasium:make", imported.clone());
    }

    #[test]
    fn envpool_s_are_named_apart_because_gymnasium_cannot_make_them() {
        assert_eq!(recovery("envpool:Pong-v5", &Kwargs::new(), &[]), None);
        let metadata = json!({ OWN_KEY: { "id": "envpool:Pong-v5", "kwargs": {} } });
        assert_eq!(env_of(&metadata, None), Some(("envpool:Pong-v5".to_owned(), Kwargs::new())));
    }

    #[test]
    fn every_native_environment_has_its_class() {
        for spec in eva_rl_envs::specs() {
            assert!(recovery(&spec.id, &Kwargs::new(), &[]).is_some(), "{}", spec.id);
        }
        assert_eq!(recovery("Mine-v0", &Kwargs::new(), &[]), None);
    }
}
