//! Parity folders: the reference's arrays pass, altered ones do not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use eva_rl_agents::tensor::file::{self as tensor_file, TensorFile};
use tch::Tensor;

use crate::support::copy_folder;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parity/atari-dt-3")
}

#[test]
fn the_reference_s_folder_passes() {
    assert_eq!(eva_rl::parity::run(&[folder()]), ExitCode::SUCCESS);
}

#[test]
fn every_altered_array_fails() {
    for case in ["window", "short", "rollout"] {
        let names: Vec<String> = {
            let file = TensorFile::open(&folder().join(format!("{case}.safetensors"))).unwrap();
            file.names().filter(|name| !name.starts_with("in.")).map(str::to_owned).collect()
        };
        assert!(!names.is_empty());
        for name in names {
            let altered = tempfile::tempdir().unwrap();
            copy_folder(&folder(), altered.path());
            let path = altered.path().join(format!("{case}.safetensors"));
            let mut tensors: Vec<(String, Tensor)> =
                TensorFile::open(&path).unwrap().read_all().unwrap().into_iter().collect();
            let (_, array) = tensors.iter_mut().find(|(found, _)| *found == name).unwrap();
            // By more than the tolerance of 2e-5 in one number.
            let mut one = array.flatten(0, -1).get(0);
            let _ = if array.is_floating_point() { one.g_add_scalar_(5e-5) } else { one.g_add_scalar_(1) };
            fs::remove_file(&path).unwrap();
            tensor_file::write(&tensors, &path).unwrap();
            assert_eq!(
                eva_rl::parity::run(&[altered.path().to_owned()]),
                ExitCode::from(1),
                "{case}: {name}"
            );
        }
    }
}

#[test]
fn what_is_no_parity_folder_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(eva_rl::parity::run(&[empty.path().to_owned()]), ExitCode::from(2));
    assert_eq!(eva_rl::parity::run(&[]), ExitCode::from(2));
    let without_cases = tempfile::tempdir().unwrap();
    copy_folder(&folder(), without_cases.path());
    let meta = r#"{"family": "atari-dt", "variant": {"heads": 1}, "cases": {}}"#;
    fs::write(without_cases.path().join("meta.json"), meta).unwrap();
    assert_eq!(eva_rl::parity::run(&[without_cases.path().to_owned()]), ExitCode::from(2));
}
