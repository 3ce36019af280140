//! Spaces as Minari writes them: JSON with Python's infinities, and a bound for every number.

use eva_rl_envs::{ActionSpace, Bound, Space};
use serde_json::json;

/// A space.
pub fn of_space(space: &Space) -> String {
    match space {
        Space::Box { shape, dtype, low, high } => {
            let (low, high) = (nested(low, shape), nested(high, shape));
            format!(
                r#"{{"type": "Box", "dtype": "{dtype}", "shape": {}, "low": {low}, "high": {high}}}"#,
                json!(shape)
            )
        }
        Space::Discrete { n, start } => of_discrete(*n, *start),
        Space::MultiDiscrete { counts, starts } => of_multi_discrete(counts, starts),
        Space::MultiBinary { shape } => {
            let n = if let [n] = shape[..] { json!(n) } else { json!(shape) };
            json!({ "type": "MultiBinary", "n": n }).to_string()
        }
        Space::Text { min_length, max_length, characters } => {
            let characters: String = characters.iter().collect();
            json!({ "type": "Text", "max_length": max_length, "min_length": min_length, "charset": characters })
                .to_string()
        }
        Space::Tuple(parts) => {
            let parts: Vec<String> = parts.iter().map(of_space).collect();
            format!(r#"{{"type": "Tuple", "subspaces": [{}]}}"#, parts.join(", "))
        }
        Space::Dict(parts) => {
            let parts: Vec<String> =
                parts.iter().map(|(name, part)| format!("{}: {}", json!(name), of_space(part))).collect();
            format!(r#"{{"type": "Dict", "subspaces": {{{}}}}}"#, parts.join(", "))
        }
        Space::Other(name) => json!({ "type": name }).to_string(),
    }
}

/// A space of actions.
pub fn of_actions(action: &ActionSpace) -> String {
    match action {
        ActionSpace::Discrete { n, start } => of_discrete(*n, *start),
        ActionSpace::MultiDiscrete { counts, starts } => of_multi_discrete(counts, starts),
        ActionSpace::Box { low, high } => of_vectors(low, high),
    }
}

/// A Box of float32 on one axis.
pub fn of_vectors(low: &[f32], high: &[f32]) -> String {
    of_space(&Space::Box {
        shape: vec![low.len()],
        dtype: "float32".to_owned(),
        low: Bound::Each(low.to_vec()),
        high: Bound::Each(high.to_vec()),
    })
}

fn of_discrete(n: usize, start: i64) -> String {
    json!({ "type": "Discrete", "dtype": "int64", "start": start, "n": n }).to_string()
}

fn of_multi_discrete(counts: &[usize], starts: &[i64]) -> String {
    json!({ "type": "MultiDiscrete", "dtype": "int64", "nvec": counts, "start": starts }).to_string()
}

/// The bounds of a Box of this shape, as a list of lists.
fn nested(bound: &Bound, shape: &[usize]) -> String {
    let count = shape.iter().product();
    let numbers: Vec<String> = match bound {
        Bound::All(one) => vec![number(*one); count],
        Bound::Each(each) => each.iter().map(|one| number(*one)).collect(),
    };
    let mut parts = numbers;
    for size in shape.iter().rev() {
        parts = match size {
            0 => vec!["[]".to_owned()],
            _ => parts.chunks(*size).map(|parts| format!("[{}]", parts.join(", "))).collect(),
        };
    }
    parts.join(", ")
}

fn number(bound: f32) -> String {
    match bound {
        f32::INFINITY => "Infinity".to_owned(),
        f32::NEG_INFINITY => "-Infinity".to_owned(),
        bound => json!(f64::from(bound)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_is_read_back_as_it_was_written() {
        let text = Space::Text { min_length: 1, max_length: 9, characters: "ab c".chars().collect() };
        let image = Space::Box {
            shape: vec![2, 3, 1],
            dtype: "uint8".to_owned(),
            low: Bound::All(0.0),
            high: Bound::All(255.0),
        };
        let one = Space::Box {
            shape: vec![2],
            dtype: "float64".to_owned(),
            low: Bound::Each(vec![-1.5, f32::NEG_INFINITY]),
            high: Bound::Each(vec![2.0, f32::INFINITY]),
        };
        let space = Space::Dict(vec![
            ("flags".to_owned(), Space::MultiBinary { shape: vec![3] }),
            ("image".to_owned(), image),
            ("mission".to_owned(), text),
            ("where".to_owned(), Space::Tuple(vec![one, Space::Discrete { n: 3, start: -1 }])),
            ("x".to_owned(), Space::MultiDiscrete { counts: vec![2, 3], starts: vec![0, 5] }),
        ]);
        let written = of_space(&space).replace("-Infinity", "null").replace("Infinity", "null");
        let read = Space::from_json(&serde_json::from_str(&written).unwrap()).unwrap();
        assert_eq!(read, space);
    }

    #[test]
    fn a_box_of_several_axes_has_bounds_in_lists_of_lists() {
        assert_eq!(nested(&Bound::All(0.0), &[2, 1, 2]), "[[[0.0, 0.0]], [[0.0, 0.0]]]");
        assert_eq!(nested(&Bound::Each(vec![1.0, f32::INFINITY]), &[2]), "[1.0, Infinity]");
    }
}
