//! Writing Minari datasets, so that Python's `minari` loads them and recovers the environment.

use std::fs;
use std::path::Path;

use eva_rl_envs::{ActionSpace, EnvSpec, Kwargs, Phase};
use hdf5_pure::{AttrValue, DatasetBuilder, EnumTypeBuilder, FileBuilder, make_i8_type};
use serde_json::{Map, Value, json};

use super::trajectory::{Dataset, Trajectory};
use crate::output::write_folder;

/// The format's version that this writes, as `minari` names it.
const MINARI_VERSION: &str = "0.5.4";

/// What makes an environment of Gymnasium's registry by its id.
const GYMNASIUM_MAKE: &str = "gymnasium:make";

/// Names the environment where no `env_spec` can: Gymnasium's `make` breaks EnvPool's batches, whose own `spec`
/// it replaces, so minari says that there is none.
const OWN_KEY: &str = "eva_rl_env";

/// Writes a dataset into `path`, which must not exist: whole or not at all; `spec` is the contract of
/// its environment, where that is at hand, which one of the Python modules `imports` may have registered.
pub fn write(
    dataset: &Dataset,
    spec: Option<&EnvSpec>,
    imports: &[String],
    path: &Path,
) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hdf5 = hdf5(dataset)?;
    let metadata = metadata(dataset, spec, imports, &dataset_id(&name), hdf5.len());
    write_folder(path, |folder| {
        fs::create_dir(folder.join("data"))?;
        fs::write(folder.join("data/main_data.hdf5"), hdf5)?;
        fs::write(folder.join("data/metadata.json"), metadata)?;
        Ok(())
    })
}

/// Minari's names end in a version.
fn dataset_id(name: &str) -> String {
    let versioned = name.rsplit_once("-v").is_some_and(|(_, version)| version.parse::<u32>().is_ok());
    if versioned { name.to_owned() } else { format!("{name}-v0") }
}

fn hdf5(dataset: &Dataset) -> anyhow::Result<Vec<u8>> {
    let mut file = FileBuilder::new();
    for (episode, trajectory) in dataset.trajectories.iter().enumerate() {
        let steps = trajectory.len() as u64;
        let mut group = file.create_group(&format!("episode_{episode}"));
        group.set_attr("id", AttrValue::I64(episode as i64));
        group.set_attr("total_steps", AttrValue::I64(steps as i64));
        let rows = trajectory.observations.len() / dataset.observation_width;
        group
            .create_dataset("observations")
            .with_f32_data(&trajectory.observations.all())
            .with_shape(&[rows as u64, dataset.observation_width as u64]);
        match &dataset.action {
            ActionSpace::Discrete { .. } => {
                group.create_dataset("actions").with_i64_data(&indices(&trajectory.actions.all()));
            }
            ActionSpace::MultiDiscrete { counts } => {
                let rows = trajectory.actions.len() / counts.len();
                group
                    .create_dataset("actions")
                    .with_i64_data(&indices(&trajectory.actions.all()))
                    .with_shape(&[rows as u64, counts.len() as u64]);
            }
            ActionSpace::Box { low, .. } => {
                let rows = trajectory.actions.len() / low.len();
                group
                    .create_dataset("actions")
                    .with_f32_data(&trajectory.actions.all())
                    .with_shape(&[rows as u64, low.len() as u64]);
            }
        }
        let rewards: Vec<f64> = trajectory.rewards.iter().map(|reward| f64::from(*reward)).collect();
        group.create_dataset("rewards").with_f64_data(&rewards);
        write_flags(group.create_dataset("terminations"), trajectory, Phase::Terminated)?;
        write_flags(group.create_dataset("truncations"), trajectory, Phase::Truncated)?;
        let infos = group.create_group("infos").finish();
        group.add_group(infos);
        file.add_group(group.finish());
    }
    Ok(file.finish()?)
}

fn indices(actions: &[f32]) -> Vec<i64> {
    actions.iter().map(|action| *action as i64).collect()
}

/// h5py's booleans, true at the last step alone, where the episode ended so.
fn write_flags(dataset: &mut DatasetBuilder, trajectory: &Trajectory, end: Phase) -> anyhow::Result<()> {
    let boolean = EnumTypeBuilder::with_base(make_i8_type()).value("FALSE", 0).value("TRUE", 1).build()?;
    let mut flags = vec![0; trajectory.len()];
    if let Some(last) = flags.last_mut() {
        *last = u8::from(trajectory.end == end);
    }
    dataset.with_enum_u8_data(boolean, &flags);
    Ok(())
}

fn metadata(dataset: &Dataset, spec: Option<&EnvSpec>, imports: &[String], id: &str, bytes: usize) -> String {
    let mut metadata = Map::new();
    metadata.insert("total_episodes".to_owned(), json!(dataset.trajectories.len()));
    metadata.insert("total_steps".to_owned(), json!(dataset.steps()));
    metadata.insert("data_format".to_owned(), json!("hdf5"));
    metadata.insert("jpeg_encoding".to_owned(), json!(false));
    let (low, high) = match spec {
        Some(spec) => (spec.observation_low.clone(), spec.observation_high.clone()),
        None => {
            let bound = vec![f32::INFINITY; dataset.observation_width];
            (bound.iter().map(|x| -x).collect(), bound)
        }
    };
    metadata.insert("observation_space".to_owned(), Value::String(box_space(&low, &high)));
    let action = match &dataset.action {
        ActionSpace::Discrete { n } => {
            json!({ "type": "Discrete", "dtype": "int64", "start": 0, "n": n }).to_string()
        }
        ActionSpace::MultiDiscrete { counts } => {
            let zeros = vec![0; counts.len()];
            json!({ "type": "MultiDiscrete", "dtype": "int64", "nvec": counts, "start": zeros }).to_string()
        }
        ActionSpace::Box { low, high } => box_space(low, high),
    };
    metadata.insert("action_space".to_owned(), Value::String(action));
    if let (Some(spec), Some((id, kwargs))) = (spec, &dataset.env) {
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
        }
    }
    let megabytes = (bytes as f64 / 1e5).round() / 10.0;
    metadata.insert("dataset_size".to_owned(), json!(megabytes));
    metadata.insert("dataset_id".to_owned(), json!(id));
    metadata.insert("author".to_owned(), json!(["eva-rl"]));
    metadata.insert("algorithm_name".to_owned(), json!(dataset.algorithm));
    metadata.insert("minari_version".to_owned(), json!(MINARI_VERSION));
    Value::Object(metadata).to_string() + "\n"
}

/// A Box as Minari spells it, with Python's infinities.
fn box_space(low: &[f32], high: &[f32]) -> String {
    let list = |bounds: &[f32]| {
        let bounds: Vec<String> = bounds
            .iter()
            .map(|bound| match *bound {
                f32::INFINITY => "Infinity".to_owned(),
                f32::NEG_INFINITY => "-Infinity".to_owned(),
                bound => json!(f64::from(bound)).to_string(),
            })
            .collect();
        format!("[{}]", bounds.join(", "))
    };
    let (low_list, high_list) = (list(low), list(high));
    format!(
        r#"{{"type": "Box", "dtype": "float32", "shape": [{}], "low": {low_list}, "high": {high_list}}}"#,
        low.len()
    )
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
