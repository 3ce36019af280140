//! What transformers and PEFT computed, computed here (fixtures by `tools/golden/golden_policies.py`).

use std::path::Path;

use eva_rl_agents::adapter::{self, AdapterError, AdapterSet, Origin, Rank, Scaling};
use eva_rl_agents::adapter_init::eva::{Eva, EvaOptions, SolverKind, StopRule};
use eva_rl_agents::adapter_init::{eva_adapters, observe_policy, shared_inputs};
use eva_rl_agents::model::{self, Given, Inputs, Policy, PolicyError, TransformerPolicy};
use eva_rl_agents::tensor::file as tensor_file;
use tch::{Device, Kind, Tensor};

use crate::support::{forward, inputs, read_adapter, sites, tensors};

const SCALING: Scaling = Scaling { alpha: 1.0, rank_stabilised: false };

fn golden(name: &str) -> std::path::PathBuf {
    crate::support::golden("policies").join(name)
}

#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    let difference = (found - expected).abs().max().double_value(&[]);
    assert!(difference < tolerance, "{what} differs by {difference}");
}

#[track_caller]
fn check_predictions(policy: &TransformerPolicy, adapters: &AdapterSet, folder: &Path) {
    let found = forward(policy, adapters, &inputs(&tensors(&folder.join("inputs.safetensors"))));
    let expected = tensors(&folder.join("outputs.safetensors"));
    assert_close(&found.actions, &expected["action_preds"], 1e-5, "actions");
    assert_close(&found.states.unwrap(), &expected["state_preds"], 1e-5, "states");
    assert_close(&found.returns.unwrap(), &expected["return_preds"], 1e-5, "returns");
}

#[track_caller]
fn check_policy(name: &str) {
    let policy = model::read(&golden(name), Given::default(), Device::Cpu).unwrap();
    check_predictions(&policy, &AdapterSet::default(), &golden(name));
}

#[test]
fn the_plain_policy_predicts_as_transformers_does() {
    check_policy("plain");
}

#[test]
fn heads_inner_width_activation_and_depth_scaling_are_honoured() {
    check_policy("odd");
}

#[test]
fn a_policy_with_logits_predicts_as_transformers_does() {
    check_policy("discrete");
}

#[test]
fn a_large_batch_which_onednn_computes_gives_what_its_parts_do() {
    let policy = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
    let mut few = tensors(&golden("plain").join("inputs.safetensors"));
    let parts = forward(&policy, &AdapterSet::default(), &inputs(&few));
    for tensor in few.values_mut() {
        *tensor = tensor.repeat_interleave_self_int(40, 0, None); // 240 windows of 5 steps
    }
    let whole = forward(&policy, &AdapterSet::default(), &inputs(&few));
    assert_close(&whole.actions, &parts.actions.repeat_interleave_self_int(40, 0, None), 1e-6, "actions");
    assert_close(
        &whole.states.unwrap(),
        &parts.states.unwrap().repeat_interleave_self_int(40, 0, None),
        1e-5,
        "states",
    );
}

#[test]
fn a_config_without_a_model_type_is_hugging_face_s_whatever_stands_before_the_names() {
    let whole = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(golden("plain").join("config.json")).unwrap();
    let mut config: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&config).unwrap();
    config.remove("model_type").expect("the fixture says it");
    std::fs::write(folder.path().join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    let renamed: Vec<(String, Tensor)> =
        whole.weights().iter().map(|(name, weight)| (format!("module.{name}"), weight.copy())).collect();
    tensor_file::write(&renamed, &folder.path().join("model.safetensors")).unwrap();
    let found = model::read(folder.path(), Given::default(), Device::Cpu).unwrap();
    assert_eq!(found.weights(), whole.weights());
}

#[test]
fn shards_pickles_and_old_files_hold_the_same_policy() {
    let whole = model::read(&golden("odd"), Given::default(), Device::Cpu).unwrap();
    for name in ["shards", "pickle", "old"] {
        let found = model::read(&golden(name), Given::default(), Device::Cpu).unwrap();
        assert_eq!(found.weights(), whole.weights(), "{name}");
    }
}

#[test]
fn four_tokens_global_positions_and_bins_are_computed_as_the_reference_does() {
    let policy = model::read(&golden("four-tokens"), Given::default(), Device::Cpu).unwrap();
    check_predictions(&policy, &AdapterSet::default(), &golden("four-tokens"));
    let inputs = inputs(&tensors(&golden("four-tokens").join("inputs.safetensors")));
    let found = forward(&policy, &AdapterSet::default(), &inputs);
    let expected = tensors(&golden("four-tokens").join("outputs.safetensors"));
    assert_close(&found.action_logits.unwrap(), &expected["action_logits"], 1e-5, "logits");
    let last = tch::no_grad(|| Policy::Transformer(policy).act(&inputs)).unwrap();
    assert_close(&last, &expected["action_preds"].select(1, -1), 1e-6, "the last action");
}

#[test]
fn a_torchscript_module_gives_its_own_outputs() {
    let policy = Policy::read(&golden("script"), Given::default(), Device::Cpu).unwrap();
    let inputs = inputs(&tensors(&golden("script").join("inputs.safetensors")));
    let expected = &tensors(&golden("script").join("outputs.safetensors"))["action_preds"];
    let last = tch::no_grad(|| policy.act(&inputs)).unwrap();
    assert_close(&last, &expected.select(1, -1), 1e-6, "the last action");
    let Policy::TorchScript(script) = policy else { panic!("it is a TorchScript module") };
    assert_close(&script.forward(&inputs).unwrap().actions, expected, 1e-6, "actions");
}

/// What the module says of windows for a policy of these sizes, which are not its own.
#[track_caller]
fn check_module_fails(state_dim: i64, act_dim: i64, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let statistics = folder.path().join("sizes.json");
    let (mean, std) = (vec![0.0; state_dim as usize], vec![1.0; state_dim as usize]);
    let bounds = vec![1.0; act_dim as usize];
    let sizes = serde_json::json!({
        "state_dim": state_dim, "act_dim": act_dim, "state_mean": mean, "state_std": std,
        "action_low": bounds, "action_high": bounds,
    });
    std::fs::write(&statistics, sizes.to_string()).unwrap();
    let policy = Policy::read(
        &golden("script"),
        Given { statistics: Some(&statistics), ..Given::default() },
        Device::Cpu,
    )
    .unwrap();
    let float = (Kind::Float, Device::Cpu);
    let inputs = Inputs {
        states: Tensor::zeros([2, 4, state_dim], float),
        words: None,
        images: None,
        previous: None,
        actions: Tensor::zeros([2, 4, act_dim], float),
        rewards: None,
        returns_to_go: Tensor::zeros([2, 4, 1], float),
        timesteps: Tensor::zeros([2, 4], (Kind::Int64, Device::Cpu)),
        mask: Tensor::ones([2, 4], (Kind::Bool, Device::Cpu)),
    };
    let error = policy.act(&inputs).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    for word in words {
        assert!(error.contains(word), "{error:?} lacks {word:?}");
    }
}

#[test]
fn a_module_that_fails_or_returns_something_else_says_so_in_a_sentence() {
    check_module_fails(4, 1, &["model.pt", "failed", "shapes cannot be multiplied (8x4 and 3x8)"]);
    check_module_fails(
        3,
        2,
        &["model.pt", "returned actions of shape [2, 4, 1]", "expected actions of shape [2, 4, 2]"],
    );
}

#[test]
fn every_rule_of_peft_s_format_gives_peft_s_outputs() {
    for name in ["peft-dora", "peft-saved"] {
        let policy = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
        let (facts, adapters) = read_adapter(&golden(name), &policy);
        let merged = policy.merged(&adapters);
        check_predictions(&policy.with_replaced(&adapters), &adapters, &golden(name));
        check_predictions(&merged, &AdapterSet::default(), &golden(name));

        let folder = tempfile::tempdir().unwrap();
        facts.write(&adapters, folder.path()).unwrap();
        let policy = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
        let (_, again) = read_adapter(folder.path(), &policy);
        check_predictions(&policy.merged(&again), &AdapterSet::default(), &golden(name));
    }
}

#[test]
fn dora_starts_at_the_base_exactly() {
    let (policy, mut adapters) = eva(2.0, &golden("eva-rho-2"));
    policy.init_dora(&mut adapters);
    let inputs = inputs(&tensors(&golden("plain").join("inputs.safetensors")));
    let base = forward(&policy, &AdapterSet::default(), &inputs);
    assert_eq!(forward(&policy, &adapters, &inputs).actions, base.actions);
}

#[test]
fn an_adapter_of_another_base_is_refused_by_its_fingerprint() {
    let policy = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
    let (mut facts, adapters) = read_adapter(&golden("peft-adapter"), &policy);
    facts.fingerprint = Some(adapter::fingerprint(policy.weights()));
    let folder = tempfile::tempdir().unwrap();
    facts.write(&adapters, folder.path()).unwrap();
    let (facts, adapters) = read_adapter(folder.path(), &policy);
    let merged = policy.merged(&adapters); // the same shapes, other weights
    let error = merged.check_adapters(&facts, &adapters, folder.path()).unwrap_err();
    assert!(matches!(error, AdapterError::OtherBase { .. }), "{error}");
}

#[test]
fn acting_on_the_last_state_alone_equals_the_whole_forward() {
    let policy = model::read(&golden("odd"), Given::default(), Device::Cpu).unwrap();
    let inputs = inputs(&tensors(&golden("odd").join("inputs.safetensors")));
    let whole = forward(&policy, &AdapterSet::default(), &inputs).actions.select(1, -1);
    let policy = Policy::Transformer(policy);
    let last = tch::no_grad(|| policy.act(&inputs)).unwrap();
    assert_close(&last, &whole, 1e-6, "actions");
}

#[test]
fn an_adapter_that_peft_wrote_gives_peft_s_outputs() {
    let policy = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
    let (_, adapters) = read_adapter(&golden("peft-adapter"), &policy);
    check_predictions(&policy, &adapters, &golden("peft-adapter"));
}

#[test]
fn merging_gives_the_adapted_outputs() {
    let policy = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
    let (_, adapters) = read_adapter(&golden("peft-adapter"), &policy);
    check_predictions(&policy.merged(&adapters), &AdapterSet::default(), &golden("peft-adapter"));
}

/// Adapters that PEFT wrote under a name, into a folder below, with rules that look around: `tools/golden/golden_foreign.py`.
#[test]
fn what_peft_loads_gives_peft_s_outputs() {
    let policy = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
    for name in ["peft-look-ahead", "peft-tables", "peft-tables-dora"] {
        let folder = golden("../foreign").join(name);
        let (facts, adapters) = read_adapter(&folder, &policy);
        let adapted =
            model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap().with_replaced(&adapters);
        check_predictions(&adapted, &adapters, &folder);
        check_predictions(&policy.merged(&adapters), &AdapterSet::default(), &folder);
        // Written here, they are what they were.
        let again = tempfile::tempdir().unwrap();
        facts.write(&adapters, again.path()).unwrap();
        let (_, again) = read_adapter(again.path(), &policy);
        check_predictions(&policy.merged(&again), &AdapterSet::default(), &folder);
    }
}

/// Weights below a key of a training checkpoint, under names that wrappers lengthen, and a state dict called `.pt`.
#[test]
fn weights_as_training_scripts_save_them_are_read() {
    let plain = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
    for path in ["checkpoint", "state-dict/policy.pt"] {
        let policy = Policy::read(&golden("../foreign").join(path), Given::default(), Device::Cpu).unwrap();
        let Policy::Transformer(policy) = policy else { panic!("{path} is a transformer") };
        assert_eq!(policy.weights(), plain.weights(), "{path}");
    }
}

#[test]
fn a_written_policy_is_read_back_bit_for_bit() {
    let policy = model::read(&golden("odd"), Given::default(), Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    model::write(&policy, folder.path()).unwrap();
    let again = model::read(folder.path(), Given::default(), Device::Cpu).unwrap();
    assert_eq!(again.config(), policy.config());
    assert_eq!(again.weights(), policy.weights());
}

#[test]
fn a_written_adapter_is_read_back_bit_for_bit() {
    let policy = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
    let (facts, adapters) = read_adapter(&golden("eva-rho-2"), &policy);
    assert_eq!(facts.origin, Origin::Eva { rho: 2.0, tau: Some(0.99) });
    let folder = tempfile::tempdir().unwrap();
    facts.write(&adapters, folder.path()).unwrap();
    let (facts_again, again) = read_adapter(folder.path(), &policy);
    assert_eq!(facts_again, facts);
    assert_eq!(again.parameters(), adapters.parameters());
    let scales = |set: &AdapterSet| set.sites.values().map(|lora| lora.scale).collect::<Vec<_>>();
    assert_eq!(scales(&again), scales(&adapters));
}

/// Runs EVA on the batches that PEFT's saw, as long as PEFT's ran.
fn eva(rho: f64, folder: &Path) -> (TransformerPolicy, AdapterSet) {
    let policy = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
    let batches = tensors(&folder.join("batches.safetensors"));
    let rank = Rank::try_from(4).unwrap();
    let options = EvaOptions {
        rho,
        solver: SolverKind::Incremental,
        stop: StopRule::ComponentCosine,
        ..EvaOptions::new(rank)
    };
    let sites = sites(&policy);
    let mut eva = Eva::new(shared_inputs(&sites), options, None, Device::Cpu);
    for batch in 0..12 {
        let slice = batches.iter().map(|(name, tensor)| (name.clone(), tensor.get(batch))).collect();
        if observe_policy(&mut eva, &policy, &sites, &inputs(&slice)).unwrap().done {
            break;
        }
    }
    let adapters = eva_adapters(&eva.finish().unwrap(), &sites, SCALING.scale(4));
    (policy, adapters)
}

#[track_caller]
fn check_eva(rho: f64, name: &str) {
    let (policy, found) = eva(rho, &golden(name));
    let (_, expected) = read_adapter(&golden(name), &policy);
    assert_eq!(found.sites.len(), expected.sites.len());
    for (site, expected) in &expected.sites {
        let found = &found.sites[site];
        assert_eq!(found.rank(), expected.rank(), "rank of {site}");
        assert!((found.scale - expected.scale).abs() < 1e-12, "scale of {site}");
        // Cosines of the principal angles between the two spanned subspaces.
        let overlap = found.down.matmul(&expected.down.tr());
        let (_, cosines, _) = overlap.svd(true, true);
        let worst = cosines.min().double_value(&[]);
        assert!(worst > 0.999, "{site} spans another subspace: cosine {worst}");
        assert_eq!(found.up.abs().max().double_value(&[]), 0.0, "B of {site}");
    }
}

#[test]
fn eva_with_equal_ranks_finds_peft_s_subspaces() {
    check_eva(1.0, "eva-rho-1");
}

#[test]
fn eva_with_shared_ranks_finds_peft_s_ranks_and_subspaces() {
    check_eva(2.0, "eva-rho-2");
}

#[test]
fn the_first_forward_after_eva_equals_the_base_exactly() {
    let (policy, adapters) = eva(2.0, &golden("eva-rho-2"));
    let inputs = inputs(&tensors(&golden("plain").join("inputs.safetensors")));
    let base = forward(&policy, &AdapterSet::default(), &inputs);
    let adapted = forward(&policy, &adapters, &inputs);
    assert_eq!(base.actions, adapted.actions);
    assert_eq!(base.states, adapted.states);
}

#[test]
fn padding_never_reaches_eva() {
    let policy = model::read(&golden("plain"), Given::default(), Device::Cpu).unwrap();
    let options = EvaOptions { rho: 1.0, ..EvaOptions::new(Rank::try_from(2).unwrap()) };
    let components = |junk: f64| {
        let mut tensors = tensors(&golden("plain").join("inputs.safetensors"));
        let padded = tensors["attention_mask"].eq(0).unsqueeze(-1);
        let states = tensors["states"].masked_fill(&padded, junk);
        tensors.insert("states".to_owned(), states);
        let mut eva = Eva::new(shared_inputs(&sites(&policy)), options.clone(), None, Device::Cpu);
        observe_policy(&mut eva, &policy, &sites(&policy), &inputs(&tensors)).unwrap();
        eva.finish().unwrap().components
    };
    let (quiet, loud) = (components(0.0), components(1e4));
    for (site, down) in &quiet {
        assert_close(down, &loud[site], 1e-5, &site.to_string());
    }
}

/// `plain` with one more tensor, read again.
fn read_with_extra(name: &str) -> Result<TransformerPolicy, PolicyError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("plain").join("config.json"), folder.path().join("config.json")).unwrap();
    let mut held = tensors(&golden("plain").join("model.safetensors"));
    held.insert(name.to_owned(), Tensor::from_slice(&[1.0f32]));
    let held: Vec<(String, Tensor)> = held.into_iter().collect();
    tensor_file::write(&held, &folder.path().join("model.safetensors")).unwrap();
    model::read(folder.path(), Given::default(), Device::Cpu)
}

#[test]
fn a_tensor_of_another_depth_is_refused_and_one_of_no_part_is_left_out() {
    let name = "encoder.h.2.ln_1.bias";
    let error = read_with_extra(name).unwrap_err();
    assert!(matches!(&error, PolicyError::Unexpected { name: found, .. } if found == name), "{error}");
    let policy = read_with_extra("value_head.bias").unwrap();
    assert_eq!(policy.config().ignored, ["value_head.bias"]);
    assert!(!policy.weights().contains_key("value_head.bias"));
}

#[test]
fn weights_that_contradict_the_config_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(golden("plain").join("config.json")).unwrap();
    let text = text.replace("\"state_dim\": 3", "\"state_dim\": 4");
    std::fs::write(folder.path().join("config.json"), text).unwrap();
    std::fs::copy(golden("plain").join("model.safetensors"), folder.path().join("model.safetensors"))
        .unwrap();
    let error = model::read(folder.path(), Given::default(), Device::Cpu).unwrap_err();
    assert!(matches!(&error, PolicyError::Shape { name, .. } if name == "embed_state.weight"), "{error}");
}
