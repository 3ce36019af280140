//! Which environments show a direction, an image of symbols and a mission, as BabyAI's do, and where.

use std::ops::Range;

use eva_rl_agents::model::{GridPlace, Symbols};
use eva_rl_envs::{PartKind, Space};

use crate::data::texts;

/// The keys of such an observation.
const KEYS: [&str; 3] = ["direction", "image", "mission"];

/// Where observations of a space show the three, if they show them and nothing else; `apart` says whether the image lies
/// beside the row, which is `row_width` wide.
pub fn grid_place(space: &Space, apart: bool, row_width: usize) -> Option<GridPlace> {
    let parts = space.parts().ok()?;
    let at = |key: &str| parts.iter().position(|part| part.leaf.path == [key]);
    let [direction, image, mission] = KEYS.map(at);
    let (direction, image, mission) = (&parts[direction?], image?, &parts[mission?]);
    let PartKind::Image { shape, channels_last } = parts[image].kind else { return None };
    let one_from_0 = matches!(direction.leaf.space, Space::Discrete { start: 0, .. });
    let is_empty = parts.iter().any(|part| part.leaf.columns.is_empty());
    if parts.len() != KEYS.len() || is_empty || !one_from_0 || mission.kind != PartKind::Text {
        return None;
    }
    // Columns behind an image that lies apart close up.
    let gap = parts[image].leaf.columns.clone();
    let in_row = |columns: &Range<usize>| match apart && columns.start >= gap.end {
        true => columns.start - gap.len()..columns.end - gap.len(),
        false => columns.clone(),
    };
    Some(GridPlace {
        direction: in_row(&direction.leaf.columns),
        symbols: match apart {
            true => Symbols::Apart { shape: shape.map(|size| size as i64), channels_last },
            false => Symbols::InRow(gap.clone()),
        },
        mission: texts::place_of(mission, in_row(&mission.leaf.columns)),
        row_width,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn space(keys: [&str; 3], directions: usize) -> Space {
        let bytes = |shape| json!({ "type": "Box", "dtype": "uint8", "shape": shape, "low": 0, "high": 255 });
        let [direction, image, mission] = keys;
        Space::from_json(&json!({ "type": "Dict", "subspaces": {
            (direction): { "type": "Discrete", "n": directions },
            (image): bytes(json!([7, 7, 3])),
            (mission): bytes(json!([20])),
        } }))
        .unwrap()
    }

    #[test]
    fn columns_close_up_behind_an_image_that_lies_apart() {
        let space = space(KEYS, 4);
        let in_row = grid_place(&space, false, 171).unwrap();
        assert_eq!((&in_row.direction, &in_row.mission.columns), (&(0..4), &(151..171)));
        assert_eq!(in_row.symbols, Symbols::InRow(4..151));
        let apart = grid_place(&space, true, 24).unwrap();
        assert_eq!((&apart.direction, &apart.mission.columns), (&(0..4), &(4..24)));
        assert_eq!(apart.symbols, Symbols::Apart { shape: [3, 7, 7], channels_last: true });
    }

    #[test]
    fn other_observations_show_no_mission() {
        assert_eq!(grid_place(&space(["direction", "picture", "mission"], 4), true, 24), None);
        assert_eq!(grid_place(&space(["direction", "image", "text"], 4), true, 24), None);
        assert_eq!(grid_place(&space(KEYS, 0), true, 20), None);
        let vector = json!({ "type": "Box", "dtype": "float32", "shape": [3], "low": 0, "high": 1 });
        assert_eq!(grid_place(&Space::from_json(&vector).unwrap(), false, 3), None);
    }
}
