//! The texts of observations, as a policy's vocabulary reads them.

use std::collections::BTreeSet;
use std::ops::Range;

use eva_rl_agents::model::Vocabulary;
use eva_rl_envs::{Part, PartKind, Space};

use super::trajectory::{Dataset, Trajectory};

/// Every text of these episodes' rows of `width`, once.
pub fn of<'a>(
    trajectories: impl IntoIterator<Item = &'a Trajectory>,
    width: usize,
    place: &Vocabulary,
) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for trajectory in trajectories {
        let rows = trajectory.observations.all();
        let mut last: &[f32] = &[];
        for row in rows.chunks(width) {
            // Most steps say what the step before has said.
            if row[place.columns.clone()] != *last {
                texts.insert(place.text(row));
            }
            last = &row[place.columns.clone()];
        }
    }
    texts
}

/// The words of the text `key` in datasets of the same space; or why there are none.
pub fn vocabulary(key: &str, datasets: &[Dataset]) -> Result<Vocabulary, String> {
    let mut place = place(key, &datasets[0])?;
    let mut texts = BTreeSet::new();
    for dataset in datasets {
        texts.extend(of(&dataset.trajectories, dataset.observation_width, &place));
    }
    place = Vocabulary::of(place.columns, place.characters, texts.iter().map(String::as_str));
    if place.words.is_empty() {
        return Err(format!("`policy.new.text` is {key:?}, of which the data hold no word"));
    }
    Ok(place)
}

/// The text that rows hold in these columns, of whose words nothing is known yet.
pub fn place_of(part: &Part, columns: Range<usize>) -> Vocabulary {
    let characters = match part.leaf.space {
        Space::Text { characters, .. } => characters.iter().collect(),
        _ => (0..=u8::MAX).map(char::from).collect(), // bytes
    };
    Vocabulary { columns, characters, words: Vec::new(), longest: 1 }
}

/// Where a dataset's rows hold the text `key`, and its characters.
fn place(key: &str, dataset: &Dataset) -> Result<Vocabulary, String> {
    let parts = dataset.space.as_ref().and_then(|space| space.parts().ok()).unwrap_or_default();
    let name = |path: &[String]| path.join(".");
    let known: Vec<String> = parts
        .iter()
        .filter(|part| part.kind == PartKind::Text)
        .map(|part| format!("{:?}", name(&part.leaf.path)))
        .collect();
    let mut apart = 0; // columns of the image, which rows do not have
    for part in &parts {
        if dataset.image.is_some() && apart == 0 && matches!(part.kind, PartKind::Image { .. }) {
            apart = part.leaf.columns.len();
        }
        if part.kind == PartKind::Text && name(&part.leaf.path) == key {
            return Ok(place_of(part, part.leaf.columns.start - apart..part.leaf.columns.end - apart));
        }
    }
    let found = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(format!(
        "`policy.new.text` is {key:?}, expected the key of a text of the data's observations: {found}"
    ))
}
