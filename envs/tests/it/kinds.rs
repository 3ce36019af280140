//! Every kind of spaces: those that EnvPool's ids have, and those that it lacks.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use eva_rl_envs::{ActionSpace, BridgeSettings, EnvError, PartKind, Phase, VecEnv, check_actions, make_with};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::bridge::{Game, settings, strange};

/// Of a kind, the id that is played and its options, where that is not the first without.
const OTHERS: [(&str, &str, &str); 2] =
    [("Backgammon-v1", "Blackjack-v1", "{}"), ("D1Basic-v1", "D1Basic-v1", "{\"use_combined_action\":true}")];

/// The first ids of the kinds that are refused: boards and cards of more than one player.
const REFUSED: [&str; 3] = ["Go9x9-v1", "KuhnPoker-v1", "SparrowMahjong-v1"];

/// What `tests/kinds.py` prints.
#[derive(serde::Deserialize)]
struct Kinds {
    /// From each kind to its ids.
    kinds: BTreeMap<String, Vec<String>>,
    /// Ids whose spaces EnvPool cannot tell here, by the reason.
    unknown: BTreeMap<String, Vec<String>>,
}

fn ask_envpool() -> Kinds {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of_workers = root.ancestors().map(|folder| folder.join(".bridge/bin/python"));
    let named = env::var_os("EVA_RL_PYTHON").filter(|named| !named.is_empty()).map(PathBuf::from);
    let python = named.or_else(|| of_workers.into_iter().find(|python| python.is_file()));
    let script = root.join("tests/kinds.py");
    let output = Command::new(python.unwrap_or_else(|| "python3".into())).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn make(id: &str, options: &str, num_envs: usize) -> Result<Box<dyn VecEnv>, EnvError> {
    let options = serde_json::from_str(options).unwrap();
    make_with(&format!("envpool:{id}"), &options, num_envs, &BridgeSettings::default())
}

/// An action, each as likely as any other.
fn draw(space: &ActionSpace, rng: &mut ChaCha8Rng) -> Vec<f32> {
    match space {
        ActionSpace::Discrete { n, .. } => vec![rng.gen_range(0..*n) as f32],
        ActionSpace::MultiDiscrete { counts, .. } => {
            counts.iter().map(|n| rng.gen_range(0..*n) as f32).collect()
        }
        ActionSpace::Box { low, high } => {
            low.iter().zip(high).map(|(low, high)| rng.gen_range(*low..=*high)).collect()
        }
    }
}

/// Plays a few random steps, in which no worker may fail.
fn play(pool: Box<dyn VecEnv>) {
    let mut game = Game::new(pool, 0);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for _ in 0..5 {
        let space = &game.pool.spec().action;
        let actions = [draw(space, &mut rng), draw(space, &mut rng)].concat();
        game.pool.step(&actions, &mut game.batch).unwrap();
        assert_eq!(game.pool.incidents(), [], "{}", game.pool.spec().id);
    }
}

#[test]
fn one_environment_of_each_kind_of_envpool_s_is_played_unless_it_has_more_players() {
    let Kinds { kinds, unknown } = ask_envpool();
    assert!(kinds.len() >= 40, "EnvPool has {} kinds of spaces", kinds.len());
    let mut refused = Vec::new();
    for (kind, ids) in &kinds {
        let first = ids[0].as_str();
        let other = OTHERS.iter().find(|(of, ..)| *of == first);
        let (id, options) = other.map_or((first, "{}"), |(_, id, options)| (*id, *options));
        match make(id, options, 2) {
            Ok(pool) => play(pool),
            Err(error) => {
                let sentence =
                    format!("`envpool:{id}` cannot be made: ValueError: it has more than one player");
                assert_eq!(error.to_string(), sentence, "{kind}");
                refused.push(id);
            }
        }
    }
    refused.sort_unstable();
    assert_eq!(refused, REFUSED);
    // Procgen without Qt, and ViZDoom's task without files of one's own: EnvPool's own sentence.
    for ids in unknown.values() {
        let error = make(&ids[0], "{}", 1).err().expect("it cannot be made").to_string();
        assert!(error.contains("cannot be made: ") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn buttons_without_bounds_are_refused_with_what_bounds_them() {
    let error = make("D1Basic-v1", "{}", 1).err().expect("it is refused").to_string();
    let sentence = "`envpool:D1Basic-v1` cannot be made: ValueError: its buttons have no bounds, expected the kwarg `use_combined_action=true`: one of their combinations";
    assert_eq!(error, sentence);
}

/// Plays the first and the last action of a space; what the environment is given comes back as `taken`.
#[track_caller]
fn check_taken(takes: &str, action: &ActionSpace, taken: [Vec<f32>; 2]) {
    let mut game = Game::new(strange("gymnasium:Takes-v0", json!({"takes": takes}), 1, &settings()), 0);
    let spec = game.pool.spec().clone();
    assert_eq!(&spec.action, action);
    assert_eq!(spec.max_episode_steps, 6, "of some episodes the longest");
    let text = spec.action.width();
    assert_eq!(spec.observation_high[text..], [3.0; 7], "one more than characters is none");
    let counts = match action {
        ActionSpace::Discrete { n, .. } => vec![*n],
        ActionSpace::MultiDiscrete { counts, .. } => counts.clone(),
        ActionSpace::Box { .. } => unreachable!("none of these is continuous"),
    };
    let last: Vec<f32> = counts.iter().map(|count| (count - 1) as f32).collect();
    let missions = [("g", [1.0, 3.0]), ("go", [1.0, 2.0])];
    let played = [vec![0.0; counts.len()], last];
    for ((chosen, taken), (mission, shown)) in played.into_iter().zip(taken).zip(missions) {
        check_actions(action, &chosen).unwrap();
        game.pool.step(&chosen, &mut game.batch).unwrap();
        assert_eq!(game.batch.phases, [Phase::Running], "{:?}", game.pool.incidents());
        assert_eq!(game.batch.observations[text..text + 2], shown);
        let space = spec.space.as_ref().expect("an environment in Python has a space");
        let parts = space.parts().expect("its rows are flat");
        let missions: Vec<String> =
            parts.iter().filter_map(|part| part.text(&game.batch.observations)).collect();
        assert_eq!(missions, [mission]);
        assert_eq!(game.batch.observations[..text], taken);
        assert_eq!(game.batch.rewards, [taken.iter().sum::<f32>()]);
        let named: Vec<f32> =
            chosen.iter().zip(action.starts()).map(|(chosen, start)| chosen + *start as f32).collect();
        assert_eq!(named, taken, "what a dataset records");
    }
}

#[test]
fn actions_are_what_their_environment_calls_them() {
    let several = |counts, starts| ActionSpace::MultiDiscrete { counts, starts };
    check_taken("Box", &several(vec![6, 2], vec![-2, 0]), [vec![-2.0, 0.0], vec![3.0, 1.0]]);
    check_taken("Discrete", &ActionSpace::Discrete { n: 3, start: -1 }, [vec![-1.0], vec![1.0]]);
    check_taken("MultiDiscrete", &several(vec![2, 3], vec![-4, 5]), [vec![-4.0, 5.0], vec![-3.0, 7.0]]);
    check_taken("MultiBinary", &several(vec![2, 2], vec![0, 0]), [vec![0.0, 0.0], vec![1.0, 1.0]]);
}

#[test]
fn a_mission_is_read_from_its_row() {
    let pool = strange("envpool:BabyAI-GoToObj-v0", json!({}), 2, &BridgeSettings::default());
    let game = Game::new(pool, 0);
    let space = game.pool.spec().space.clone().expect("an environment in Python has a space");
    let parts = space.parts().expect("its rows are flat");
    let kinds: Vec<(&str, &PartKind)> =
        parts.iter().map(|part| (part.leaf.path[0].as_str(), &part.kind)).collect();
    let direction = PartKind::Discrete { counts: vec![4], starts: vec![0] };
    let image = PartKind::Image { shape: [3, 7, 7], channels_last: true };
    assert_eq!(kinds, [("direction", &direction), ("image", &image), ("mission", &PartKind::Text)]);
    for row in game.batch.observations.chunks(game.pool.spec().observation_width()) {
        let mission = parts[2].text(row).expect("it is a text");
        assert!(mission.starts_with("go to ") && mission.is_ascii(), "{mission:?}");
    }
}
