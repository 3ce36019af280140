//! Parity folders: the reference's arrays pass, altered ones do not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use eva_rl_agents::tensor::file::{self as tensor_file, TensorFile};
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::support::{copy_folder, test_rows};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parity").join(name)
}

/// The reference's cases pass, and none of them does where a number of the reference's is altered.
fn row(_: &str, name: &str) {
    assert_eq!(eva_rl::parity::run(&[folder(name)]), ExitCode::SUCCESS);
    let meta: Value =
        serde_json::from_str(&fs::read_to_string(folder(name).join("meta.json")).unwrap()).unwrap();
    let cases: Vec<&String> = meta["cases"].as_object().unwrap().keys().collect();
    assert!(!cases.is_empty());
    for case in cases {
        let names: Vec<String> = {
            let file = TensorFile::open(&folder(name).join(format!("{case}.safetensors"))).unwrap();
            file.names().filter(|name| !name.starts_with("in.")).map(str::to_owned).collect()
        };
        assert!(!names.is_empty());
        for array in names {
            let altered = tempfile::tempdir().unwrap();
            copy_folder(&folder(name), altered.path());
            let path = altered.path().join(format!("{case}.safetensors"));
            let mut tensors: Vec<(String, Tensor)> =
                TensorFile::open(&path).unwrap().read_all().unwrap().into_iter().collect();
            let (_, altered_array) = tensors.iter_mut().find(|(found, _)| *found == array).unwrap();
            // By more than every family's tolerance, in one number.
            let greatest = altered_array.to_kind(Kind::Double).abs().max().double_value(&[]);
            let mut one = altered_array.flatten(0, -1).get(0);
            let more = 1e-3 * (1.0 + greatest);
            let _ = if one.is_floating_point() { one.g_add_scalar_(more) } else { one.g_add_scalar_(1) };
            fs::remove_file(&path).unwrap();
            tensor_file::write(&tensors, &path).unwrap();
            let found = eva_rl::parity::run(&[altered.path().to_owned()]);
            assert_eq!(found, ExitCode::from(1), "{case}: {array}");
        }
    }
}

mod the_reference_s_cases_pass_and_altered_ones_do_not {
    use super::*;

    test_rows! {
        row: atari_decision_transformer = "atari-dt-3",
        jat_of_images = "jat-2",
        jat_of_ids = "jat-3",
        l2m_and_lram = "l2m-1",
        l2m_and_lram_of_other_bins = "l2m-3",
        l2m_and_lram_of_images = "l2m-2",
        vintix_of_two_groups = "vintix-1",
        vintix_of_odd_widths = "vintix-2",
        vintix_of_three_heads = "vintix-3",
    }
}

#[test]
fn what_is_no_parity_folder_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(eva_rl::parity::run(&[empty.path().to_owned()]), ExitCode::from(2));
    assert_eq!(eva_rl::parity::run(&[]), ExitCode::from(2));
    let without_cases = tempfile::tempdir().unwrap();
    copy_folder(&folder("atari-dt-3"), without_cases.path());
    let meta = r#"{"family": "atari-dt", "variant": {"heads": 1}, "cases": {}}"#;
    fs::write(without_cases.path().join("meta.json"), meta).unwrap();
    assert_eq!(eva_rl::parity::run(&[without_cases.path().to_owned()]), ExitCode::from(2));
}
