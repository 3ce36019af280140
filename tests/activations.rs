//! `eva --activations`: EVA of another framework's model, whose activations are in files.

use std::fs;

use eva_rl_agents::tensor::file::{self, TensorFile};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::support::Bench;

const SITES: &str = r#"{
    "base_model": "somebody/model",
    "sites": {
        "h.0.q": {"input": "h.0.norm", "out_features": 5},
        "h.0.v": {"input": "h.0.norm", "out_features": 3},
        "h.0.out": {"out_features": 4}
    }
}"#;

/// Rows whose variance falls by a factor of four along directions that are no axes: `[rows, width]`.
fn rows(count: i64, width: i64, seed: u64) -> Tensor {
    // Not torch's generator, which is every test's.
    let numbers = |count: i64, seed: u64| -> Tensor {
        let mut state = seed;
        let draws = (0..12 * count).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32
        });
        let draws: Vec<f32> = draws.collect();
        Tensor::from_slice(&draws).view([count, 12]).sum_dim_intlist(1, false, Kind::Float) - 6.0 // [count]
    };
    let (turn, _) = Tensor::linalg_qr(&numbers(width * width, seed + 1).view([width, width]), "reduced");
    let scales = (Tensor::arange(width, (Kind::Float, Device::Cpu)) * -(2f64.ln())).exp(); // [width]
    (numbers(count * width, seed).view([count, width]) * scales).matmul(&turn)
}

/// A folder of one shard for each of these ends, in percent of the rows.
fn write(bench: &Bench, folder: &str, ends: &[i64], kind: Kind) -> [Tensor; 2] {
    let folder = bench.path(folder);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("sites.json"), SITES).unwrap();
    let inputs = [("h.0.norm", rows(4000, 8, 1)), ("h.0.out", rows(3000, 6, 5))];
    let mut from = 0;
    for end in ends {
        let part = |x: &Tensor| {
            let row = |percent: i64| x.size()[0] * percent / 100;
            x.narrow(0, row(from), row(*end) - row(from)).to_kind(kind)
        };
        let arrays = inputs.each_ref().map(|(name, x)| ((*name).to_owned(), part(x)));
        Tensor::write_safetensors(&arrays, folder.join(format!("{end:03}.safetensors"))).unwrap();
        from = *end;
    }
    inputs.map(|(_, x)| x)
}

/// The matrices of an adapter's folder by module and letter, in PEFT's names.
fn read(bench: &Bench, adapter: &str) -> impl Fn(&str, &str) -> Tensor {
    let path = bench.path(adapter).join("adapter_model.safetensors");
    let all = TensorFile::open(&path).unwrap().read_all().unwrap();
    move |module, letter| all[&format!("base_model.model.{module}.lora_{letter}.weight")].copy()
}

const SEARCH: [&str; 6] = ["--rank", "2", "--rho", "1", "--stop", "split_half"];

#[test]
fn activations_of_any_model_give_the_leading_directions_of_all_rows() {
    let bench = Bench::new();
    for (out, ends, kind) in [
        ("one", &[100][..], Kind::Float),
        ("many", &[10, 35, 70, 100], Kind::Float),
        ("half", &[50, 100], Kind::Half),
    ] {
        let data = format!("{out}-data");
        let inputs = write(&bench, &data, ends, kind);
        let arguments = ["eva", "--activations", &data, "--out", out, "--json", "--tau", "1"];
        let said: Value = serde_json::from_str(&bench.succeed(&[&arguments[..], &SEARCH].concat())).unwrap();
        assert_eq!(said["converged"], true);
        assert_eq!(said["batches"], ends.len());
        let matrix = read(&bench, out);
        for (module, input, output) in
            [("h.0.q", &inputs[0], 5), ("h.0.v", &inputs[0], 3), ("h.0.out", &inputs[1], 4)]
        {
            let (down, up) = (matrix(module, "A"), matrix(module, "B"));
            assert_eq!(up.size(), [output, 2]);
            assert_eq!(up.abs().max().double_value(&[]), 0.0);
            let directions = input.svd(true, true).2.tr(); // [width, width]
            let cosines = (down * directions.narrow(0, 0, 2)).sum_dim_intlist(1, false, Kind::Float).abs();
            assert!(cosines.min().double_value(&[]) > 0.9999, "{out}, {module}: {cosines:?}");
        }
        assert_eq!(matrix("h.0.q", "A"), matrix("h.0.v", "A"));
    }
    let config = fs::read_to_string(bench.path("many/adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["base_model_name_or_path"], "somebody/model");
    assert_eq!(config["peft_type"], "LORA");
}

#[test]
fn a_search_ends_once_the_directions_have_converged_and_at_the_modules_that_are_named() {
    let bench = Bench::new();
    let _ = write(&bench, "data", &(1..=50).map(|part| 2 * part).collect::<Vec<_>>(), Kind::Float);
    let arguments = [
        "eva",
        "--activations",
        "data",
        "--out",
        "some",
        "--json",
        "--tau",
        "0.9",
        "--target-modules",
        "out",
    ];
    let said: Value = serde_json::from_str(&bench.succeed(&[&arguments[..], &SEARCH].concat())).unwrap();
    assert_eq!(said["converged"], true);
    assert!(said["batches"].as_u64().unwrap() < 50, "{said}");
    let sites: Vec<&str> =
        said["sites"].as_array().unwrap().iter().map(|site| site["site"].as_str().unwrap()).collect();
    assert_eq!(sites, ["h.0.out"]);
}

#[test]
fn every_solver_gives_the_same_bits_again_and_peft_s_goes_over_the_data_until_it_has_converged() {
    let bench = Bench::new();
    let inputs = write(&bench, "data", &[50, 100], Kind::Float);
    let directions = inputs[1].svd(true, true).2.tr(); // [width, width]
    for (solver, stop, most) in
        [("gram", "split_half", 2), ("sketch", "split_half", 2), ("incremental", "component_cosine", 50)]
    {
        let found = ["first", "second"].map(|which| {
            let out = format!("{solver}-{which}");
            let arguments = [
                "eva",
                "--activations",
                "data",
                "--rank",
                "2",
                "--rho",
                "1",
                "--solver",
                solver,
                "--stop",
                stop,
                "--json",
                "--out",
                &out,
            ];
            let said: Value = serde_json::from_str(&bench.succeed(&arguments)).unwrap();
            assert_eq!(said["converged"], true, "{solver}");
            assert!(said["batches"].as_u64().unwrap() <= most, "{said}");
            read(&bench, &out)("h.0.out", "A")
        });
        assert_eq!(found[0], found[1], "{solver}");
        let cosines = (&found[0] * directions.narrow(0, 0, 2)).sum_dim_intlist(1, false, Kind::Float).abs();
        assert!(cosines.min().double_value(&[]) > 0.99, "{solver}: {cosines:?}");
    }
}

#[test]
fn wrong_activations_are_refused_in_a_sentence() {
    let bench = Bench::new();
    let refused = |what: &str, change: &dyn Fn(&std::path::Path), sentence: &str| {
        let _ = write(&bench, what, &[50, 100], Kind::Float);
        change(&bench.path(what));
        let output = bench.run(&["eva", "--activations", what, "--out", "none", "--rank", "2"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(sentence), "{said}");
        assert!(!bench.path("none").exists());
    };
    let table = |text: &'static str| {
        move |folder: &std::path::Path| fs::write(folder.join("sites.json"), text).unwrap()
    };
    let arrays = |arrays: Vec<(&'static str, Tensor)>| {
        move |folder: &std::path::Path| {
            let all: Vec<_> = arrays.iter().map(|(name, x)| ((*name).to_owned(), x.copy())).collect();
            file::write(&all, &folder.join("100.safetensors")).unwrap();
        }
    };
    let zeros = |shape: &[i64], kind: Kind| Tensor::zeros(shape, (kind, Device::Cpu));
    refused(
        "no-table",
        &|folder| fs::remove_file(folder.join("sites.json")).unwrap(),
        "sites.json\": No such file",
    );
    refused("no-json", &table("{"), "sites.json\": EOF while parsing");
    refused("no-sites", &table(r#"{"sites": {}}"#), "names no sites, expected at least one");
    refused("other-key", &table(r#"{"sites": {"a": {"out": 1}}}"#), "the site `a` is not as expected");
    refused(
        "no-outputs",
        &table(r#"{"sites": {"a": {"out_features": 0}}}"#),
        "has out_features 0, expected at least 1",
    );
    refused("other-array", &table(r#"{"sites": {"a": {"out_features": 1}}}"#), "the array `a` is not there");
    refused(
        "no-shards",
        &|folder| {
            ["050", "100"]
                .iter()
                .for_each(|name| fs::remove_file(folder.join(format!("{name}.safetensors"))).unwrap())
        },
        "has no shards, expected files that end in .safetensors",
    );
    refused(
        "torn",
        &|folder| fs::write(folder.join("100.safetensors"), b"12345").unwrap(),
        "is no whole safetensors file",
    );
    refused(
        "empty",
        &|folder| fs::write(folder.join("100.safetensors"), b"").unwrap(),
        "100.safetensors\" is no whole safetensors file",
    );
    refused(
        "no-rows",
        &|folder| {
            fs::remove_file(folder.join("050.safetensors")).unwrap();
            arrays(vec![("h.0.norm", zeros(&[0, 8], Kind::Float)), ("h.0.out", zeros(&[0, 6], Kind::Float))])(
                folder,
            );
        },
        "hold no rows, expected at least one",
    );
    let norm = || ("h.0.norm", zeros(&[9, 8], Kind::Float));
    refused(
        "cubes",
        &arrays(vec![norm(), ("h.0.out", zeros(&[2, 3, 6], Kind::Float))]),
        "is of shape [2, 3, 6], expected [rows, width]",
    );
    refused(
        "wider",
        &arrays(vec![norm(), ("h.0.out", zeros(&[9, 7], Kind::Float))]),
        "has rows of 7 numbers, expected 6",
    );
    refused(
        "whole",
        &arrays(vec![norm(), ("h.0.out", zeros(&[9, 6], Kind::Int64))]),
        "holds I64, expected F32, F16, BF16 or F64",
    );
    let nan = zeros(&[9, 6], Kind::Float) + f64::NAN;
    refused(
        "nan",
        &arrays(vec![norm(), ("h.0.out", nan)]),
        "the activations of h.0.out hold NaN or infinity",
    );
    for (more, sentence) in [
        (&["--rank", "7"][..], "--rank is 7, and the narrowest module has 6 inputs"),
        (
            &["--rank", "2", "--target-modules", "k"],
            "names `k`, which ends no module that can be adapted, expected the end of one of h.0.q, h.0.v, h.0.out",
        ),
        (&["--dora"], "cannot be used with"),
        (&["--data", "nan"], "cannot be used with"),
        (&["--batch-size", "3"], "cannot be used with"),
    ] {
        let output = bench.run(&[&["eva", "--activations", "nan", "--out", "none"], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(sentence), "{said}");
    }
}
