//! What spaces hold, and what they are called.

use serde_json::{Value, json};

use super::name::MAX_NAME;
use super::*;

fn read(value: Value) -> Space {
    Space::from_json(&value).unwrap()
}

/// What `tools/golden/golden_spaces.py` prints: a space as Minari writes it, values as they are recorded, and what
/// `gymnasium.spaces.flatten` makes of them.
#[test]
fn values_are_flattened_as_gymnasium_flattens_them_and_back() {
    let text = include_str!("../../../tests/golden/spaces.json");
    let cases: Vec<Value> = serde_json::from_str(text).unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let space = read(case["space"].clone());
        let mut row = vec![0.0; space.width().unwrap()];
        for part in space.parts().unwrap() {
            let leaf = &part.leaf;
            let recorded = &case["recorded"][leaf.path.join("/")];
            if let Some(text) = recorded.as_str() {
                leaf.flatten_text(text, &mut row).unwrap();
                assert_eq!(part.text(&row).as_deref(), Some(text), "{space}");
                continue;
            }
            let recorded: Vec<f64> = serde_json::from_value(recorded.clone()).unwrap();
            assert_eq!(recorded.len(), leaf.recorded(), "{case}");
            leaf.flatten(&recorded, &mut row).unwrap();
            let again: Vec<f32> = leaf.unflatten(&row).iter().map(|number| *number as f32).collect();
            let recorded: Vec<f32> = recorded.iter().map(|number| *number as f32).collect();
            assert_eq!((again, part.text(&row)), (recorded, None), "{space}");
        }
        let wanted: Vec<f32> = serde_json::from_value(case["flattened"].clone()).unwrap();
        assert_eq!(row, wanted, "{space}");
        assert_eq!(space.to_string(), case["name"].as_str().unwrap());
    }
}

#[test]
fn a_value_outside_of_its_space_is_refused() {
    let space = read(json!({ "type": "Discrete", "n": 3, "start": 1 }));
    let leaf = &space.leaves().unwrap()[0];
    for value in [0.0, 4.0, 1.5] {
        let said = leaf.flatten(&[value], &mut [0.0; 3]).unwrap_err();
        assert!(said.contains("expected a whole number in 1..=3"), "{said}");
    }
}

#[test]
fn a_name_is_short_and_an_image_is_one() {
    let picture = json!({ "type": "Box", "dtype": "uint8", "shape": [84, 84, 3], "low": 0, "high": 255 });
    let space = read(picture);
    assert_eq!(space.to_string(), "Box(0, 255, (84, 84, 3), uint8)");
    assert!(space.is_image());
    let many: Vec<Value> = (0..500).map(|_| json!({ "type": "Discrete", "n": 2 })).collect();
    assert!(read(json!({ "type": "Tuple", "subspaces": many })).to_string().chars().count() <= MAX_NAME + 1);
}

#[test]
fn what_is_no_space_is_none() {
    let mut deep = json!({ "type": "Discrete", "n": 2 });
    for _ in 0..100 {
        deep = json!({ "type": "Tuple", "subspaces": [deep] });
    }
    for value in [
        json!({}),
        json!({ "type": "Box", "shape": [1 << 20, 1 << 20], "low": 0, "high": 1 }),
        json!({ "type": "Box", "shape": [2], "low": [0], "high": 1 }),
        json!({ "type": "Discrete", "n": -1 }),
        deep,
    ] {
        assert_eq!(Space::from_json(&value), None);
    }
    let graph = read(json!({ "type": "Dict", "subspaces": { "a": { "type": "Graph" } } }));
    let (path, other) = graph.leaves().unwrap_err();
    assert_eq!((path, other.to_string()), (vec!["a".to_owned()], "Graph".to_owned()));
}

#[test]
fn parts_are_what_they_hold() {
    let bytes =
        |shape: Value| json!({ "type": "Box", "dtype": "uint8", "shape": shape, "low": 0, "high": 255 });
    let space = read(json!({ "type": "Dict", "subspaces": {
        "direction": { "type": "Discrete", "n": 4, "start": -1 },
        "image": bytes(json!([7, 8, 3])),
        "mission": bytes(json!([5])),
        "ram": bytes(json!([2])),
        "two": { "type": "Tuple", "subspaces": [
            { "type": "MultiBinary", "n": [1, 2] },
            { "type": "Text", "min_length": 0, "max_length": 3, "charset": "abc" },
        ] },
    } }));
    let parts = space.parts().unwrap();
    let discrete = |counts, starts| PartKind::Discrete { counts, starts };
    let kinds: Vec<(String, PartKind)> =
        parts.iter().map(|part| (part.leaf.path.join("/"), part.kind.clone())).collect();
    let expected = [
        ("direction", discrete(vec![4], vec![-1])),
        ("image", PartKind::Image { shape: [3, 7, 8], channels_last: true }),
        ("mission", PartKind::Text),
        ("ram", PartKind::Vector),
        ("two/_index_0", discrete(vec![2, 2], vec![0, 0])),
        ("two/_index_1", PartKind::Text),
    ];
    assert_eq!(kinds, expected.map(|(path, kind)| (path.to_owned(), kind)));

    let mut row = vec![0.0; space.width().unwrap()];
    row[parts[2].leaf.columns.start..][..3].copy_from_slice(&[103.0, 111.0, 32.0]);
    parts[5].leaf.flatten_text("cab", &mut row).unwrap();
    let texts: Vec<Option<String>> = parts.iter().map(|part| part.text(&row)).collect();
    assert_eq!((texts[2].as_deref(), texts[5].as_deref()), (Some("go "), Some("cab")));
    assert_eq!(texts.iter().flatten().count(), 2);
    for (text, sentence) in [
        ("cabc", "holds a longer text, expected at most 3 characters"),
        ("cd", "holds 'd', expected characters of Text(0, 3, 3 characters)"),
    ] {
        assert_eq!(parts[5].leaf.flatten_text(text, &mut row).unwrap_err(), sentence);
    }
}
