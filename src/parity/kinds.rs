//! Cases by the kind that `meta.json` gives them.

use std::path::Path;

use serde_json::Value;

use super::case::{Case, Tolerance};
use crate::support::errors::InputError;

/// Plays one case of a folder, of which `meta.json` says these facts.
pub type PlayCase = fn(&Path, &Value, &mut Case) -> anyhow::Result<()>;

/// Plays a folder's cases, each a forward pass or a rollout.
pub fn play(
    folder: &Path,
    meta: &Value,
    tolerance: Tolerance,
    [forward, rollout]: [PlayCase; 2],
) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, facts) in meta["cases"].as_object().into_iter().flatten() {
        let mut case = Case::open(folder, name, tolerance)?;
        match facts["kind"].as_str() {
            Some("forward") => forward(folder, facts, &mut case)?,
            Some("rollout") => rollout(folder, facts, &mut case)?,
            _ => {
                let kind = &facts["kind"];
                let text = format!(
                    "in {folder:?}, the case {name:?} is of kind {kind}, expected \"forward\" or \"rollout\""
                );
                return Err(InputError(text).into());
            }
        }
        cases.push(case.finish()?);
    }
    Ok(cases)
}
