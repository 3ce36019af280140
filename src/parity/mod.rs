//! Parity folders: a policy's files, inputs, and what its reference implementation made of them, played through the
//! code that `predict`, `train` and `evaluate` run. `cargo run --release --example parity -- FOLDER...` prints each
//! case's worst difference.

mod atari;
mod case;
mod episode;
mod jat;
mod kinds;
mod l2m;
mod vintix;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use crate::parity::case::Case;
use crate::support::errors::{InputError, OrInput, exit_code, tell};
use crate::support::stdout::print;

/// Plays the cases of one folder, whose `meta.json` is given.
type Play = fn(&Path, &Value) -> anyhow::Result<Vec<Case>>;

/// The families, by the name that `meta.json` gives them.
const FAMILIES: [(&str, Play); 4] =
    [("atari-dt", atari::play), ("jat", jat::play), ("l2m", l2m::play), ("vintix", vintix::play)];

/// Plays every case of `folders`, and prints each one's worst difference. The exit code is 0 where all are within
/// their tolerance, 1 where one is not, 2 where a folder cannot be read.
pub fn run(folders: &[PathBuf]) -> ExitCode {
    match try_run(folders) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            tell(&format!("parity: {error:#}"));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn try_run(folders: &[PathBuf]) -> anyhow::Result<bool> {
    if folders.is_empty() {
        return Err(InputError("no folder is given, expected at least one".to_owned()).into());
    }
    let mut all_pass = true;
    for folder in folders {
        for case in read_and_play(folder)? {
            let verdict = if case.passes() { "ok" } else { "FAILED" };
            print(&format!("{}: {case}: {verdict}", folder.display()))?;
            all_pass &= case.passes();
        }
    }
    Ok(all_pass)
}

fn read_and_play(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let path = folder.join("meta.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| InputError(format!("cannot read {path:?}: {error}")))?;
    let meta: Value = serde_json::from_str(&text).or_input()?;
    let named = meta["family"].as_str().unwrap_or_default();
    let Some((_, play)) = FAMILIES.into_iter().find(|(family, _)| *family == named) else {
        let known: Vec<String> = FAMILIES.iter().map(|(family, _)| format!("\"{family}\"")).collect();
        let text = format!("in {path:?}, `family` is {}, expected {}", meta["family"], known.join(" or "));
        return Err(InputError(text).into());
    };
    let cases = play(folder, &meta)?;
    if cases.is_empty() {
        return Err(InputError(format!("in {path:?}, `cases` names none, expected at least one")).into());
    }
    Ok(cases)
}
