//! States of symbols and missions as JAT reads them, against transformers' tokenizer and EnvPool's observations.
//!
//! `tools/golden/golden_missions.py` writes the fixture.

use std::fs;
use std::path::{Path, PathBuf};

use eva_rl_agents::model::{
    ActionKind, Conditioning, Grid, GridPlace, PolicyConfig, PreviousRows, Symbols, Token, TokenizerFiles,
    Vocabulary, Window,
};
use serde_json::Value;
use tch::Device;

/// Ids of an observation, the end of a text, and rows of the word embedding of the fixture's policy.
const SIZES: (i64, i64, i64) = (212, 303, 390);

fn policy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/parity/jat-3")
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("../golden/missions.json")).unwrap()
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

/// A folder with these files of the policy.
fn with(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        fs::copy(policy().join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn read(folder: &Path) -> TokenizerFiles {
    TokenizerFiles::read(folder).unwrap()
}

/// Of a direction, a mission in bytes, and an image between the two, or apart.
fn place(apart: bool) -> GridPlace {
    let after = if apart { 4 } else { 4 + 147 };
    GridPlace {
        direction: 0..4,
        symbols: match apart {
            true => Symbols::Apart { shape: [3, 7, 7], channels_last: true },
            false => Symbols::InRow(4..4 + 147),
        },
        mission: Vocabulary {
            columns: after..after + 512,
            characters: (0..=u8::MAX).map(char::from).collect(),
            words: Vec::new(),
            longest: 1,
        },
        row_width: after + 512,
    }
}

/// A policy that reads observations of this place as `width` ids.
fn config(place: &GridPlace, width: i64) -> PolicyConfig {
    let files = read(&policy());
    let grid = Grid::new(place, ("max_discrete_value", width), SIZES.1, SIZES.2, &files).unwrap();
    PolicyConfig {
        state_dim: width,
        act_dim: 7,
        action_kind: ActionKind::Discrete,
        action_tanh: false,
        raw_states: true,
        token_order: vec![Token::State, Token::Action],
        context_length: Some(4),
        return_scale: Some(1.0),
        grid: Some(grid),
        ..PolicyConfig::default()
    }
}

/// The ids of observations of the fixture, each shown twice, behind a step of padding.
#[track_caller]
fn check_observations(apart: bool) {
    let (fixture, place) = (fixture(), place(apart));
    let conditioning = Conditioning::new(&config(&place, SIZES.0), Device::Cpu).unwrap();
    assert_eq!(conditioning.symbols(), if apart { 147 } else { 0 });
    let (mut states, mut pixels) = (vec![0.0; place.row_width], vec![0; conditioning.pixels()]);
    let mut expected = vec![0.0; SIZES.0 as usize];
    let observations = fixture["observations"].as_array().unwrap();
    for observation in observations.iter().flat_map(|observation| [observation; 2]) {
        let image: Vec<u8> = numbers(&observation["image"]);
        let mut row = vec![0.0; 4];
        row[observation["direction"].as_u64().unwrap() as usize] = 1.0;
        match apart {
            // Channels first.
            true => pixels.extend((0..147).map(|at| image[at % 49 * 3 + at / 49])),
            false => row.extend(image.iter().map(|symbol| f32::from(*symbol))),
        }
        row.extend(observation["mission"].as_str().unwrap().bytes().map(f32::from));
        row.resize(place.row_width, 0.0);
        states.extend(row);
        expected.extend(numbers::<f32>(&observation["ids"]));
    }
    let steps = 2 * observations.len() + 1;
    let mask: Vec<bool> = (0..steps).map(|step| step > 0).collect();
    let zeros = vec![0.0; steps];
    let inputs = conditioning.inputs(&Window {
        batch: 1,
        steps,
        states: &states,
        pixels: &pixels,
        actions: &zeros,
        rewards: &zeros,
        previous: Some(PreviousRows { actions: &zeros, rewards: &zeros }),
        returns_to_go: &zeros,
        timesteps: &vec![0; steps],
        mask: &mask,
    });
    assert!(inputs.images.is_none() && inputs.words.is_none());
    assert_eq!(inputs.states.size(), [1, steps as i64, SIZES.0]);
    assert_eq!(Vec::<f32>::try_from(inputs.states.flatten(0, -1)).unwrap(), expected);
}

#[test]
fn observations_are_the_ids_that_the_reference_reads() {
    check_observations(false);
}

#[test]
fn an_image_that_lies_apart_is_read_in_the_environment_s_order() {
    check_observations(true);
}

#[test]
fn missions_have_the_tokens_of_transformers_by_one_file_or_by_two() {
    let missions = fixture()["missions"].as_array().unwrap().clone();
    assert!(missions.len() > 60);
    for folder in [with(&["tokenizer.json"]), with(&["vocab.json", "merges.txt"])] {
        let tokenizer = read(folder.path()).tokenizer().unwrap();
        for mission in &missions {
            let text = mission["text"].as_str().unwrap();
            assert_eq!(tokenizer.tokens(text).unwrap(), numbers::<i64>(&mission["tokens"]), "{text:?}");
        }
    }
}

#[test]
fn a_mission_without_room_is_refused() {
    let config = config(&place(true), 148 + 6);
    let reading = config.text_reading().unwrap();
    assert_eq!(reading.check("go to the red ball"), Ok(()));
    let said = reading.check("go to the purple key").unwrap_err().to_string();
    assert_eq!(said, "\"go to the purple key\" has 10 tokens, expected at most 6");
}

#[track_caller]
fn check_refused(files: &TokenizerFiles, (width, padding, known): (i64, i64, i64), sentence: &str) {
    let grid = Grid::new(&place(true), ("max_discrete_value", width), padding, known, files);
    let said = grid.unwrap_err().to_string();
    assert!(said.starts_with(sentence), "{said}");
}

#[test]
fn what_reads_no_mission_is_refused() {
    let absent =
        "`tokenizer.json` is absent, expected it, or `vocab.json` and `merges.txt`, beside config.json";
    check_refused(&TokenizerFiles::default(), SIZES, absent);
    check_refused(&read(with(&["vocab.json"]).path()), SIZES, absent);
    let whole = read(&policy());
    let narrow = "`max_discrete_value` is 148, expected more than 148, the direction and the symbols";
    check_refused(&whole, (148, SIZES.1, SIZES.2), narrow);
    let few = "`vocab_size` is 303, expected more than 303, the greatest id of symbols, tokens and padding";
    check_refused(&whole, (SIZES.0, 303, 303), few);
    check_refused(&whole, (SIZES.0, 500, 390), "`vocab_size` is 390, expected more than 500");
    for (file, garbage, others) in [
        ("tokenizer.json", "{\"model\": 3}", vec![]),
        ("tokenizer.json", "\u{1}", vec![]),
        ("vocab.json", "[", vec!["merges.txt"]),
        ("merges.txt", "one two three", vec!["vocab.json"]),
        ("merges.txt", "Ġ nowhere", vec!["vocab.json"]),
    ] {
        let folder = with(&others);
        fs::write(folder.path().join(file), garbage).unwrap();
        check_refused(&read(folder.path()), SIZES, &format!("`{file}` is unreadable ("));
    }
}

#[test]
fn a_tokenizer_s_files_are_written_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    read(&policy()).write(folder.path()).unwrap();
    for file in ["tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"] {
        let same = fs::read(folder.path().join(file)).unwrap() == fs::read(policy().join(file)).unwrap();
        assert!(same, "{file}");
    }
}
