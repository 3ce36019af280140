//! Reading Minari datasets: `data/metadata.json` and `data/main_data.hdf5`.

use std::fs;
use std::path::{Path, PathBuf};

use eva_rl_envs::{ActionSpace, Kwargs, Phase};
use hdf5_pure::{File, Group, Layout, Source, make_f32_type};
use serde_json::Value;

use super::minari_write::env_of;
use super::numbers::{MappedFile, Numbers};
use super::trajectory::{Dataset, Trajectory};

/// Numbers that a byte of a file may stand for, which is more than deflate can do.
const MAX_COMPRESSION: u64 = 1000;

/// Numbers of a chunk that may be larger than its dataset.
const MAX_CHUNK: u64 = 1 << 20;

/// Why a dataset cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("there is no dataset {path:?}; {}", how_to_make(path))]
    Absent { path: PathBuf },

    #[error("{path:?} is not a Minari dataset: cannot read {file}: {reason}")]
    Read { path: PathBuf, file: &'static str, reason: String },

    #[error("the dataset {path:?} has `{key}` = {found} in its metadata, and {wanted} is wanted")]
    Metadata { path: PathBuf, key: &'static str, found: String, wanted: &'static str },

    #[error("the dataset {path:?}, episode {episode}: {reason}")]
    Episode { path: PathBuf, episode: usize, reason: String },
}

/// Reads a dataset; what it holds as plain float32 stays in its file, mapped.
pub fn read(path: &Path) -> Result<Dataset, DatasetError> {
    let unreadable =
        |file, reason: String| DatasetError::Read { path: path.to_owned(), file, reason: one_line(&reason) };
    if !path.exists() {
        return Err(DatasetError::Absent { path: path.to_owned() });
    }
    let text = fs::read_to_string(path.join("data/metadata.json"))
        .map_err(|error| unreadable("data/metadata.json", error.to_string()))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|error| unreadable("data/metadata.json", error.to_string()))?;
    let metadata = Metadata { path, values: &metadata };
    let format = metadata.values["data_format"].as_str().unwrap_or("hdf5");
    if format != "hdf5" {
        return Err(metadata.error("data_format", "\"hdf5\""));
    }
    let observation_width = metadata.observation_width()?;
    let action = metadata.action_space()?;
    let episodes = metadata.values["total_episodes"]
        .as_u64()
        .filter(|episodes| (1..=10_000_000).contains(episodes))
        .ok_or_else(|| metadata.error("total_episodes", "a number of at least 1"))?
        as usize;

    let mapped = MappedFile::open(&path.join("data/main_data.hdf5"))
        .map_err(|error| unreadable("data/main_data.hdf5", error.to_string()))?;
    let file = File::from_source(mapped.clone())
        .map_err(|error| unreadable("data/main_data.hdf5", error.to_string()))?;
    let mut trajectories = Vec::new();
    for episode in 0..episodes {
        let refuse = |reason: String| DatasetError::Episode { path: path.to_owned(), episode, reason };
        let group = file
            .group(&format!("episode_{episode}"))
            .map_err(|error| refuse(format!("cannot be read: {}", one_line(&error.to_string()))))?;
        trajectories.push(read_episode(&group, observation_width, &action, &mapped).map_err(refuse)?);
    }
    Ok(Dataset {
        observation_width,
        action,
        env: metadata.env(),
        algorithm: metadata.values["algorithm_name"].as_str().unwrap_or_default().to_owned(),
        trajectories,
    })
}

/// How a dataset comes to be: those of this repository's configs by `make`.
fn how_to_make(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let inside = |folder: &str| path.components().any(|part| part.as_os_str() == folder);
    let target = if inside("metaworld") {
        "make metaworld-data"
    } else if name == "pendulum-g14-v0" {
        "make demo"
    } else if name.ends_with("-medium-v0") {
        "make medium"
    } else if name.starts_with("pendulum-g") && inside("datasets") {
        "make pretrained"
    } else {
        return "`eva-rl collect --env ID --policy POLICY --episodes N --out DATASET` makes one".to_owned();
    };
    format!("`{target}` makes it, in eva-rl's sources")
}

fn read_episode(
    group: &Group,
    width: usize,
    action: &ActionSpace,
    file: &MappedFile,
) -> Result<Trajectory, String> {
    let observations = read_numbers(group, "observations", file)?;
    let actions = read_numbers(group, "actions", file)?;
    let rewards = read_numbers(group, "rewards", file)?.all().into_owned();
    let terminations = read_flags(group, "terminations", file)?;
    let truncations = read_flags(group, "truncations", file)?;
    let steps = rewards.len();
    if steps == 0 {
        return Err("has no steps, and at least one is wanted".to_owned());
    }
    let lengths = [
        ("observations", observations.len(), (steps + 1) * width),
        ("actions", actions.len(), steps * action.width()),
        ("terminations", terminations.len(), steps),
        ("truncations", truncations.len(), steps),
    ];
    for (name, found, wanted) in lengths {
        if found != wanted {
            return Err(format!(
                "has {found} numbers in `{name}`, and {wanted} are wanted for {steps} rewards"
            ));
        }
    }
    check_finite("observations", &observations.all(), width)?;
    check_finite("rewards", &rewards, 1)?;
    check_actions(action, &actions.all())?;
    let end = match (terminations[steps - 1], truncations[steps - 1]) {
        (true, _) => Phase::Terminated,
        (false, true) => Phase::Truncated,
        (false, false) => Phase::Running,
    };
    Ok(Trajectory { observations, actions, rewards, end, succeeded: false })
}

/// A float or integer dataset of any shape, in row order.
fn read_numbers(group: &Group, name: &str, file: &MappedFile) -> Result<Numbers, String> {
    let numbers = || -> Result<Numbers, hdf5_pure::Error> {
        let dataset = check_size(group.dataset(name)?, file.len())?;
        if let Layout::Contiguous { address: Some(address), size } = dataset.layout()?
            && dataset.datatype()? == make_f32_type()
            && let Some(mapped) = file.numbers(address, size)
        {
            return Ok(mapped);
        }
        Ok(dataset.read_f64()?.into_iter().map(|x| x as f32).collect())
    };
    numbers().map_err(|error| format!("`{name}` cannot be read as numbers: {}", one_line(&error.to_string())))
}

/// h5py's booleans: an enumeration of one byte.
fn read_flags(group: &Group, name: &str, file: &MappedFile) -> Result<Vec<bool>, String> {
    let bytes = group.dataset(name).and_then(|dataset| check_size(dataset, file.len())?.read_raw());
    match bytes {
        Ok(bytes) => Ok(bytes.into_iter().map(|byte| byte != 0).collect()),
        Err(error) => Err(format!("`{name}` cannot be read as booleans: {}", one_line(&error.to_string()))),
    }
}

/// Refuses a dataset whose size cannot be believed: damaged bytes may ask for petabytes.
fn check_size(dataset: hdf5_pure::Dataset, file_bytes: u64) -> Result<hdf5_pure::Dataset, hdf5_pure::Error> {
    let numbers = |sides: Vec<u64>| sides.into_iter().try_fold(1_u64, u64::checked_mul);
    let values = numbers(dataset.shape()?);
    let chunk = numbers(dataset.chunk_shape()?.unwrap_or_default());
    let (most, size) = (file_bytes.saturating_mul(MAX_COMPRESSION), dataset.element_size()?);
    let fits = |(values, chunk): (u64, u64)| values <= most && chunk <= values.max(MAX_CHUNK) && size <= 8;
    if values.zip(chunk).is_some_and(fits) {
        return Ok(dataset);
    }
    let text = format!("its shape {:?} is more than the file can hold", dataset.shape()?);
    Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text).into())
}

fn check_finite(name: &str, numbers: &[f32], width: usize) -> Result<(), String> {
    match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(format!(
            "has {} in `{name}` at step {}, dimension {}, and a finite number is wanted",
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
                format!("has action {value} at step {step}, and a whole number in 0..{actions} is wanted")
            }
            eva_rl_envs::EnvError::MultiDiscreteAction { dimension, value, actions, .. } => format!(
                "has action {value} at step {step}, dimension {dimension}, and a whole number in 0..{actions} is wanted"
            ),
            eva_rl_envs::EnvError::BoxAction { dimension, value, low, high, .. } => format!(
                "has action {value} at step {step}, dimension {dimension}, and {low}..={high} is wanted"
            ),
            other => other.to_string(),
        })?;
    }
    Ok(())
}

/// The metadata and where it came from, for errors that name both.
struct Metadata<'a> {
    path: &'a Path,
    values: &'a Value,
}

impl Metadata<'_> {
    fn error(&self, key: &'static str, wanted: &'static str) -> DatasetError {
        let found = self.values.get(key).map_or("nothing".to_owned(), Value::to_string);
        DatasetError::Metadata { path: self.path.to_owned(), key, found, wanted }
    }

    /// A JSON document inside a JSON string, in Python's dialect: infinities become null.
    fn inner(&self, key: &'static str) -> Option<Value> {
        let text = self.values.get(key)?.as_str()?;
        serde_json::from_str(&without_infinities(text)).ok()
    }

    fn observation_width(&self) -> Result<usize, DatasetError> {
        let key = "observation_space";
        let wanted = "a Box of one dimension, as JSON in a string";
        let space = self.inner(key).ok_or_else(|| self.error(key, wanted))?;
        let shape = space["shape"].as_array().filter(|shape| space["type"] == "Box" && shape.len() == 1);
        let width = shape.and_then(|shape| shape[0].as_u64());
        width
            .filter(|width| (1..=1 << 20).contains(width))
            .map(|width| width as usize)
            .ok_or_else(|| self.error(key, wanted))
    }

    fn action_space(&self) -> Result<ActionSpace, DatasetError> {
        let key = "action_space";
        let wanted =
            "a bounded Box of one dimension, a Discrete or a MultiDiscrete from 0, as JSON in a string";
        let space = self.inner(key).ok_or_else(|| self.error(key, wanted))?;
        let bounds = |name: &str| -> Option<Vec<f32>> {
            let bounds = space[name].as_array()?;
            bounds.iter().map(|bound| bound.as_f64().map(|x| x as f32)).collect()
        };
        let found = if space["type"] == "Discrete" && space["start"].as_i64().unwrap_or(0) == 0 {
            space["n"]
                .as_u64()
                .filter(|n| (1..=1 << 20).contains(n))
                .map(|n| ActionSpace::Discrete { n: n as usize })
        } else if space["type"] == "MultiDiscrete" {
            let count = |n: &Value| n.as_u64().filter(|n| (1..=1 << 20).contains(n)).map(|n| n as usize);
            let counts = space["nvec"].as_array().and_then(|counts| counts.iter().map(count).collect());
            counts
                .filter(|counts: &Vec<usize>| !counts.is_empty())
                .map(|counts| ActionSpace::MultiDiscrete { counts })
        } else if space["type"] == "Box" {
            let bounds = bounds("low").zip(bounds("high"));
            let fit = |low: &[f32], high: &[f32]| {
                !low.is_empty()
                    && low.len() == high.len()
                    && low.iter().zip(high).all(|(low, high)| low < high)
            };
            bounds.filter(|(low, high)| fit(low, high)).map(|(low, high)| ActionSpace::Box { low, high })
        } else {
            None
        };
        found.ok_or_else(|| self.error(key, wanted))
    }

    fn env(&self) -> Option<(String, Kwargs)> {
        env_of(self.values, self.inner("env_spec").as_ref())
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Python's JSON with null for its infinities; what stands in strings stays.
fn without_infinities(text: &str) -> String {
    let mut strict = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some(first) = rest.chars().next() {
        let infinity = rest.strip_prefix("-Infinity").or_else(|| rest.strip_prefix("Infinity"));
        if let (false, Some(after)) = (in_string, infinity) {
            strict += "null";
            rest = after;
            continue;
        }
        // Within a string a backslash takes the character after it along.
        let escaped = if in_string && first == '\\' { rest[1..].chars().next() } else { None };
        let length = first.len_utf8() + escaped.map_or(0, char::len_utf8);
        in_string ^= first == '"';
        strict += &rest[..length];
        rest = &rest[length..];
    }
    strict
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn infinities_are_null_and_strings_stay_as_they_are() {
        let text = r#"{"low": [-Infinity, 1], "high": Infinity, "name": "to Infinity \" -Infinity"}"#;
        let wanted = r#"{"low": [null, 1], "high": null, "name": "to Infinity \" -Infinity"}"#;
        assert_eq!(without_infinities(text), wanted);
    }
    use crate::data;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/minari").join(name)
    }

    #[test]
    fn a_discrete_dataset_of_python_s_minari_is_read() {
        let dataset = read(&golden("cartpole/random-v0")).unwrap();
        assert_eq!(dataset.action, ActionSpace::Discrete { n: 2 });
        assert_eq!((dataset.observation_width, dataset.trajectories.len()), (4, 4));
        assert_eq!(dataset.trajectories[0].len(), 21);
        assert!(dataset.trajectories.iter().all(|t| t.end == Phase::Terminated));
        assert_eq!(dataset.env, Some(("CartPole-v1".to_owned(), Kwargs::new())));
    }

    #[test]
    fn a_continuous_dataset_of_python_s_minari_is_read_with_its_options() {
        let dataset = read(&golden("pendulum/heavy-v0")).unwrap();
        assert_eq!(dataset.action, ActionSpace::Box { low: vec![-2.0], high: vec![2.0] });
        assert!(dataset.trajectories.iter().all(|t| t.end == Phase::Truncated && t.len() == 20));
        assert_eq!(
            dataset.env,
            Some(("Pendulum-v1".to_owned(), Kwargs::from([("g".to_owned(), 14.0.into())])))
        );
        assert!(dataset.trajectories.iter().all(|t| t.rewards.iter().all(|reward| *reward < 0.0)));
    }

    #[test]
    fn a_written_dataset_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cartpole/random-v0", "pendulum/heavy-v0"] {
            let dataset = read(&golden(name)).unwrap();
            let path = folder.path().join(name);
            let (id, kwargs) = dataset.env.as_ref().unwrap();
            let spec = eva_rl_envs::spec(id, kwargs).unwrap();
            data::write(&dataset, Some(&spec), &[], &path).unwrap();
            assert_eq!(read(&path).unwrap(), dataset);
        }
    }

    #[test]
    fn plain_numbers_stay_in_their_file_even_once_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pendulum");
        let whole = read(&golden("pendulum/heavy-v0")).unwrap();
        data::write(&whole, None, &[], &path).unwrap();
        let mut mapped = read(&path).unwrap();
        folder.close().unwrap();
        for (mapped, whole) in mapped.trajectories.iter_mut().zip(&whole.trajectories) {
            assert!(matches!(mapped.observations, Numbers::Mapped(..)));
            assert_eq!(mapped.observations, whole.observations);
            mapped.observations.to_mut()[0] += 1.0;
            assert!(matches!(mapped.observations, Numbers::Held(..)));
            assert_eq!(mapped.observations.all()[1..], whole.observations.all()[1..]);
        }
    }

    /// Spoils a written dataset and gives what reading it says.
    fn spoiled(spoil: impl FnOnce(&mut Dataset)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut dataset = read(&golden("pendulum/heavy-v0")).unwrap();
        spoil(&mut dataset);
        let path = folder.path().join("spoiled");
        data::write(&dataset, None, &[], &path).unwrap();
        read(&path).unwrap_err().to_string()
    }

    #[test]
    fn nan_is_named_with_its_place() {
        let message = spoiled(|dataset| dataset.trajectories[1].observations.to_mut()[3 * 4 + 2] = f32::NAN);
        assert!(message.contains("episode 1") && message.contains("step 4, dimension 2"), "{message}");
    }

    #[test]
    fn an_action_out_of_range_is_named_with_its_place() {
        let message = spoiled(|dataset| dataset.trajectories[0].actions.to_mut()[5] = 2.5);
        assert!(
            message.contains("action 2.5 at step 5, dimension 0") && message.contains("-2..=2"),
            "{message}"
        );
    }

    #[test]
    fn arrays_that_disagree_are_named() {
        let message = spoiled(|dataset| dataset.trajectories[0].actions.to_mut().truncate(7));
        assert!(message.contains("7 numbers in `actions`"), "{message}");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let message = read(Path::new("nowhere")).unwrap_err().to_string();
        assert!(
            message.contains("there is no dataset \"nowhere\"") && message.contains("eva-rl collect"),
            "{message}"
        );
    }

    #[test]
    fn torn_and_twisted_files_are_refused_and_never_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torn");
        fs::create_dir_all(path.join("data")).unwrap();
        fs::copy(golden("pendulum/heavy-v0/data/metadata.json"), path.join("data/metadata.json")).unwrap();
        let whole = fs::read(golden("pendulum/heavy-v0/data/main_data.hdf5")).unwrap();
        let mut draw = ChaCha8Rng::seed_from_u64(5);
        let mut refused = 0;
        for round in 0..2000 {
            let mut bytes = whole.clone();
            if round % 10 == 0 {
                bytes.truncate(draw.gen_range(0..whole.len()));
            } else {
                for _ in 0..draw.gen_range(1..40) {
                    let at = draw.gen_range(0..bytes.len());
                    bytes[at] = draw.r#gen();
                }
            }
            fs::write(path.join("data/main_data.hdf5"), bytes).unwrap();
            if let Err(error) = read(&path) {
                assert!(!error.to_string().contains('\n'));
                refused += 1;
            }
        }
        assert!(refused >= 1000, "only {refused} of 2000 were refused");
    }
}
