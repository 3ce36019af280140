//! The environments in which foundation policies play their tasks, by the tasks' names.

use std::collections::BTreeSet;
use std::path::Path;

use eva_rl_agents::model::PolicyConfig;
use eva_rl_envs::{Kwargs, ReferenceScores};
use serde_json::json;

use crate::support::errors::InputError;

/// JAT's tasks: name, environment, and the returns of random play and of the expert whose episodes it was trained on,
/// which are those of `jat/eval/rl/scores_dict.json` (huggingface/jat, Apache-2.0).
const JAT: &str = include_str!("jat_tasks.tsv");

/// Steps of an episode of Meta-World in JAT's data.
const JAT_METAWORLD_STEPS: u32 = 100;

/// The tasks of MuJoCo that EnvPool has as Gymnasium's version 4.
const MUJOCO: [&str; 11] = [
    "Ant",
    "HalfCheetah",
    "Hopper",
    "Humanoid",
    "HumanoidStandup",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Pusher",
    "Reacher",
    "Swimmer",
    "Walker2d",
];

/// Where a task is played.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskEnv {
    /// The environment's id.
    pub id: String,
    /// Its options.
    pub kwargs: Kwargs,
    /// Returns that normalised scores refer to, where the policy's files or its authors say.
    pub reference: Option<ReferenceScores>,
}

/// The tasks that a policy knows by name, and where each is played, if that is known.
pub fn known_tasks(config: &PolicyConfig) -> Vec<(String, Option<TaskEnv>)> {
    if is_jat(config) {
        return jat_tasks().map(|(name, env)| (name.to_owned(), Some(env))).collect();
    }
    config.tasks.keys().map(|name| (name.clone(), task_env(config, name))).collect()
}

/// Where the task that is named is played.
pub fn env_of_task(config: &PolicyConfig, path: &Path) -> anyhow::Result<TaskEnv> {
    let refuse = |text: String| Err(InputError(text).into());
    let Some(name) = &config.task else {
        return refuse(format!("{path:?} plays no task by name, expected --env with an environment's id"));
    };
    match task_env(config, name) {
        Some(env) => Ok(env),
        None => refuse(format!(
            "where the task `{name}` of {path:?} is played is not known, expected --env with an environment's id"
        )),
    }
}

/// Refuses the name of a task that the policy does not know.
pub fn check_named_task(config: &PolicyConfig, path: &Path) -> anyhow::Result<()> {
    let Some(name) = &config.task else { return Ok(()) };
    let known: BTreeSet<String> = known_tasks(config).into_iter().map(|(name, _)| name).collect();
    if known.contains(name) {
        return Ok(());
    }
    let wanted = if known.is_empty() {
        "none: it takes any environment, and has no tasks by name".to_owned()
    } else {
        let likeness = |other: &&String| strsim::jaro_winkler(name, other);
        let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let nearest = nearest.map_or(String::new(), |nearest| format!(", such as \"{nearest}\""));
        format!("one of its {} tasks{nearest} (`inspect` lists them)", known.len())
    };
    Err(InputError(format!("the task of {path:?} is {name:?}, expected {wanted}")).into())
}

fn is_jat(config: &PolicyConfig) -> bool {
    config.model_type == "jat"
}

fn task_env(config: &PolicyConfig, name: &str) -> Option<TaskEnv> {
    if is_jat(config) {
        return jat_tasks().find(|(known, _)| *known == name).map(|(_, env)| env);
    }
    let task = config.tasks.get(name)?;
    let score = |key: &str| task.other.get(key).and_then(serde_json::Value::as_f64);
    let reference = score("random_score").zip(score("expert_score"));
    let reference = reference.and_then(|(random, expert)| scores(random, expert));
    Some(TaskEnv { id: id_of(name)?, kwargs: Kwargs::new(), reference })
}

/// The id of the environment that other projects call so: `Hopper-v4`, `hopper_v4` and `reach-v2`.
fn id_of(name: &str) -> Option<String> {
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    let (base, version) = name.rsplit_once(['-', '_'])?;
    match version {
        "v4" => {
            let known = MUJOCO.iter().find(|known| plain(known) == plain(base))?;
            Some(format!("envpool:{known}-v4"))
        }
        "v2" | "v3" => {
            let known = jat_tasks().find(|(task, _)| {
                task.strip_prefix("metaworld-").is_some_and(|task| plain(task) == plain(base))
            })?;
            Some(known.1.id)
        }
        _ => None,
    }
}

fn jat_tasks() -> impl Iterator<Item = (&'static str, TaskEnv)> {
    JAT.lines().skip(1).filter_map(|line| {
        let mut cells = line.split('\t');
        let (task, id) = (cells.next()?, cells.next()?);
        let (random, expert) = (cells.next()?.parse().ok()?, cells.next()?.parse().ok()?);
        let mut kwargs = Kwargs::new();
        if task.starts_with("metaworld-") {
            kwargs.insert("max_episode_steps".to_owned(), json!(JAT_METAWORLD_STEPS));
        }
        Some((task, TaskEnv { id: id.to_owned(), kwargs, reference: scores(random, expert) }))
    })
}

/// A scale from random play to an expert, which there is where they differ.
fn scores(random: f64, expert: f64) -> Option<ReferenceScores> {
    (random != expert).then(|| ReferenceScores::agent(random, expert))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jat() -> PolicyConfig {
        PolicyConfig { model_type: "jat".to_owned(), ..PolicyConfig::default() }
    }

    #[test]
    fn jat_s_tasks_are_all_read() {
        let tasks = known_tasks(&jat());
        let of = |domain: &str| tasks.iter().filter(|(name, _)| name.starts_with(domain)).count();
        let counts = ["atari-", "babyai-", "metaworld-", "mujoco-"].map(of);
        assert_eq!((counts, tasks.len()), ([57, 39, 50, 11], 157));
    }

    #[test]
    fn a_task_has_an_environment_and_the_scores_of_jat_s_authors() {
        let config = PolicyConfig { task: Some("mujoco-hopper".to_owned()), ..jat() };
        let found = env_of_task(&config, Path::new("jat")).unwrap();
        assert_eq!((found.id.as_str(), found.kwargs.len()), ("envpool:Hopper-v4", 0));
        let scores = found.reference.unwrap();
        assert_eq!((scores.random, scores.expert), (18.380233718806398, 1858.728422163856));
        let reach = task_env(&jat(), "metaworld-plate-slide-back-side").unwrap();
        assert_eq!(reach.id, "envpool:MetaWorld/PlateSlideBackSide-v3");
        assert_eq!(reach.kwargs["max_episode_steps"], 100);
        let put_next = task_env(&jat(), "babyai-put-next").unwrap();
        assert_eq!(put_next.id, "envpool:BabyAI-PutNextS7N4-v0");
        let scores = put_next.reference.unwrap();
        assert_eq!((scores.random, scores.expert), (0.0017361915411957345, 0.9597104672312736));
        // Random play earns what the expert does.
        assert_eq!(task_env(&jat(), "atari-venture").unwrap().reference, None);
    }

    #[test]
    fn other_projects_names_of_environments_are_known() {
        let ids =
            ["Hopper-v4", "half_cheetah_v4", "reach-v2", "peg-insert-side-v2", "Walker2d-v4"].map(id_of);
        let wanted = [
            "Hopper-v4",
            "HalfCheetah-v4",
            "MetaWorld/Reach-v3",
            "MetaWorld/PegInsertSide-v3",
            "Walker2d-v4",
        ];
        assert_eq!(ids.map(Option::unwrap), wanted.map(|id| format!("envpool:{id}")));
        assert_eq!(["ShadowHandPen", "Hopper-v9", "x-v2"].map(id_of), [None, None, None]);
    }

    #[test]
    fn a_misspelt_task_is_refused_with_the_nearest() {
        let config = PolicyConfig { task: Some("mujoco-hoper".to_owned()), ..jat() };
        let error = check_named_task(&config, Path::new("jat")).unwrap_err().to_string();
        assert_eq!(
            error,
            "the task of \"jat\" is \"mujoco-hoper\", expected one of its 157 tasks, such as \"mujoco-hopper\" (`inspect` lists them)"
        );
    }
}
