//! Initialisation by PEFT's methods and their training, computed here (fixtures by `tools/golden/golden_methods.py`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use eva_rl_agents::adapter::{AdapterFolder, AdapterSet, Lora, LoraOptions, Origin, Rank, Scaling};
use eva_rl_agents::adapter_init::{
    AdaLora, AdapterMethod, CorDa, Ipa, LoraGa, LoraOne, MiLora, Mode, OLora, Orthogonal, PiSsa, PlainLora,
    RankAllocator, TaskData, head_only, mean_gradients, orthogonality,
};
use eva_rl_agents::loss::behaviour_cloning;
use eva_rl_agents::model::{self, ForwardContext, Given, Inputs, TransformerPolicy};
use eva_rl_agents::optimiser::{Optimiser, Settings};
use eva_rl_agents::ranks::OneRank;
use eva_rl_agents::tensor::file as tensor_file;
use tch::{Device, Kind, Tensor};

use crate::support::{forward, golden, sites, tensors};

const SCALING: Scaling = Scaling { alpha: 6.0, rank_stabilised: false };

fn expected(case: &str) -> BTreeMap<String, Tensor> {
    tensors(&golden("methods").join(case).join("expected.safetensors"))
}

fn policy() -> TransformerPolicy {
    model::read(&golden("policies/plain"), Given::default(), Device::Cpu).unwrap()
}

fn rank(rank: u16) -> Rank {
    Rank::try_from(rank).unwrap()
}

/// The first two of the batches that EVA's fixtures were made from.
fn batches() -> Vec<Inputs> {
    let stacked = tensors(&golden("policies/eva-rho-1/batches.safetensors"));
    let inputs = |batch: i64| Inputs {
        states: stacked["states"].get(batch),
        words: None,
        images: None,
        previous: None,
        actions: stacked["actions"].get(batch),
        rewards: None,
        returns_to_go: stacked["returns_to_go"].get(batch),
        timesteps: stacked["timesteps"].get(batch),
        mask: stacked["attention_mask"].get(batch).to_kind(Kind::Bool),
    };
    (0..2).map(inputs).collect()
}

/// Adapters of this rank, with an alpha of 6.
fn size(rank: u16) -> LoraOptions {
    LoraOptions { alpha: SCALING.alpha, ..LoraOptions::new(self::rank(rank)) }
}

/// The batches as a method looks at them.
struct Batches(Vec<Inputs>);

impl TaskData for Batches {
    fn batches_per_pass(&self) -> usize {
        self.0.len()
    }

    fn batch_of_pass(&mut self, _: usize, batch: usize) -> Inputs {
        self.sampled_batch(batch)
    }

    fn sampled_batch(&mut self, batch: usize) -> Inputs {
        let inputs = &self.0[batch];
        inputs.narrow(0, inputs.mask.size()[0])
    }
}

/// The adapters of every site of the blocks, initialised by `method` from the batches.
fn initialise(policy: &TransformerPolicy, method: &dyn AdapterMethod) -> AdapterSet {
    let mut data = Batches(batches());
    method.initialise(policy, &sites(policy), &mut data, &mut |_| {}).unwrap().adapters.unwrap()
}

fn adalora(rank: u16) -> AdaLora {
    AdaLora {
        lora: size(rank),
        target_rank: self::rank(2),
        tinit: 4,
        tfinal: 8,
        delta_t: 3,
        beta1: 0.85,
        beta2: 0.85,
        orth_reg_weight: 0.5,
    }
}

fn corda(rank: u16, mode: Mode) -> CorDa {
    CorDa { lora: size(rank), batches: 2, mode }
}

fn lora_ga(rank: u16) -> LoraGa {
    LoraGa { lora: size(rank), batches: 2, gamma: 16.0 }
}

fn ipa(rank: u16) -> Ipa {
    Ipa { lora: size(rank), batches: 2, frozen: true }
}

/// No number differs by more than `tolerance` of the largest that is expected.
#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    let largest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
    let difference = largest(&(found - expected)) / largest(expected).max(f64::MIN_POSITIVE);
    println!("{what}: {difference:.1e}");
    assert!(difference < tolerance, "{what} differs by {difference}");
}

/// A and B are PEFT's up to the signs of their rows and columns, which no decomposition fixes.
#[track_caller]
fn check_halves(method: &dyn AdapterMethod, case: &str) {
    // Float32's rounding differs between CPUs, and LoRA-GA's decomposition of a gradient magnifies it.
    let tolerance = if case == "lora-ga" { 1e-4 } else { 1e-5 };
    let adapters = initialise(&policy(), method);
    let expected = expected(case);
    for (site, lora) in adapters.sites.iter().filter(|(site, _)| site.as_str().starts_with("encoder.h.1.")) {
        let (down, up) = (&expected[&format!("{site}.A")], &expected[&format!("{site}.B")]);
        assert_close(&lora.down.abs(), &down.abs(), tolerance, &format!("{case}, A of {site}"));
        assert_close(&lora.up.abs(), &up.abs(), tolerance, &format!("{case}, B of {site}"));
        if case != "lora-ga" {
            // There A and B are of different directions, each with a sign of its own.
            let product = lora.up.matmul(&lora.down);
            assert_close(&product, &up.matmul(down), tolerance, &format!("{case}, product of {site}"));
        }
    }
}

#[test]
fn pissa_initialises_as_peft_does() {
    check_halves(&PiSsa(size(4)), "pissa");
}

#[test]
fn olora_initialises_as_peft_does() {
    check_halves(&OLora(size(4)), "olora");
}

#[test]
fn corda_initialises_as_peft_does_from_the_same_batches() {
    check_halves(&corda(4, Mode::Ipm), "corda-ipm");
    check_halves(&corda(4, Mode::Kpm), "corda-kpm");
}

#[test]
fn lora_ga_initialises_as_peft_does_from_the_same_batches() {
    check_halves(&lora_ga(4), "lora-ga");
}

#[test]
fn mean_gradients_are_peft_s_and_leave_the_policy_as_it_was() {
    let policy = policy();
    let gradients = mean_gradients(&policy, &sites(&policy), &OneRank, batches());
    for (name, expected) in expected("gradients") {
        assert_close(&gradients[&name.as_str().into()], &expected, 1e-5, &format!("gradient of {name}"));
    }
    assert_eq!(policy.weights(), self::policy().weights());
    assert!(policy.weights().values().all(|weight| !weight.requires_grad() && !weight.grad().defined()));
    assert!(mean_gradients(&policy, &sites(&policy), &OneRank, []).is_empty());
}

/// The adapters as PEFT's AdaLoRA initialised them.
fn adalora_start(tensors: &BTreeMap<String, Tensor>, policy: &TransformerPolicy) -> AdapterSet {
    let mut adapters = initialise(policy, &adalora(6));
    for (site, lora) in &mut adapters.sites {
        let tensor = |part: &str| tensors[&format!("start.{site}.{part}")].copy().set_requires_grad(true);
        (lora.down, lora.up) = (tensor("lora_A"), tensor("lora_B"));
        let gains = tensors[&format!("start.{site}.lora_E")].squeeze_dim(-1).copy();
        lora.singular_values = Some(gains.set_requires_grad(true));
    }
    adapters
}

#[test]
fn adalora_trains_and_prunes_as_peft_s_does() {
    let (policy, expected) = (policy(), expected("adalora"));
    let adapters = adalora_start(&expected, &policy);
    let schedule = adalora(6).schedule(24);
    let mut allocator = RankAllocator::new(&adapters, schedule);
    let mut optimiser = Optimiser::new(adapters.parameters(), Settings::default());
    let inputs = &batches()[0];
    for update in 0..schedule.total {
        let context = &mut ForwardContext::with_adapters(&adapters);
        let loss = behaviour_cloning(&policy, context, inputs) + orthogonality(&adapters) * 0.5;
        optimiser.zero_grad();
        loss.backward();
        optimiser.step(0.01);
        allocator.update(&adapters, update);
        let difference = loss.double_value(&[]) - expected["losses"].double_value(&[update as i64]);
        assert!(difference.abs() < 1e-5, "the loss of update {update} differs by {difference}");
        let ranks = expected["kept"].get(update as i64).sum_dim_intlist(-1, false, Kind::Int64); // [sites]
        let found: Vec<i64> = allocator.ranks().into_values().collect();
        assert_eq!(found, Vec::<i64>::try_from(ranks).unwrap(), "ranks after update {update}");
    }
    for (site, lora) in &adapters.sites {
        let tensor = |part: &str| &expected[&format!("end.{site}.{part}")];
        assert_close(&lora.down, tensor("lora_A"), 1e-4, &format!("A of {site}"));
        assert_close(&lora.up, tensor("lora_B"), 1e-4, &format!("B of {site}"));
        let gains = lora.singular_values.as_ref().unwrap();
        assert_close(gains, &tensor("lora_E").squeeze_dim(-1), 1e-4, &format!("gains of {site}"));
    }
    let actions = forward(&policy, &adapters, inputs).actions;
    assert_close(&actions, &expected["actions"], 1e-5, "actions");
}

#[test]
fn lora_plus_steps_as_peft_s_optimiser_does() {
    let expected = expected("lora-plus");
    let [down, up] = ["A", "B"].map(|half| expected[&format!("start.{half}")].copy());
    let lora = Lora::new(down, up, 1.0);
    let named = vec![
        ("encoder.h.1.mlp.c_fc.lora_A.weight".to_owned(), lora.down.shallow_clone()),
        ("encoder.h.1.mlp.c_fc.lora_B.weight".to_owned(), lora.up.shallow_clone()),
    ];
    let settings = Settings { weight_decay: 0.01, ..Settings::default() };
    let mut optimiser = Optimiser::new(named, settings).with_lora_plus(16.0);
    for _ in 0..6 {
        optimiser.zero_grad();
        (lora.delta() - &expected["target"]).square().sum(Kind::Float).backward();
        optimiser.step(1e-2);
    }
    assert_close(&lora.down, &expected["end.A"], 1e-5, "A");
    assert_close(&lora.up, &expected["end.B"], 1e-5, "B");
}

/// A few updates of everything that `adapters` train.
fn train(policy: &TransformerPolicy, adapters: &AdapterSet) {
    let mut optimiser = Optimiser::new(adapters.parameters(), Settings::default());
    for inputs in batches().iter().cycle().take(4) {
        let context = &mut ForwardContext::with_adapters(adapters);
        optimiser.zero_grad();
        behaviour_cloning(policy, context, inputs).backward();
        optimiser.step(0.02);
    }
}

/// Trains, writes and reads back. The files stay in the folder that the variable `EVA_RL_METHODS_OUT` names, if it
/// does, for `tools/interop/check_methods.py`, which gives them to PEFT.
#[track_caller]
fn check_export(name: &str, mut adapters: AdapterSet, dora: bool) {
    let policy = policy();
    let inputs = batches().remove(0);
    let base = forward(&policy, &AdapterSet::default(), &inputs);
    if dora {
        policy.init_dora(&mut adapters);
    }
    if name != "lora_one" {
        assert_eq!(
            forward(&policy, &adapters, &inputs).actions,
            base.actions,
            "{name} is initialised at the base"
        );
    }
    let policy = policy.with_replaced(&adapters);
    train(&policy, &adapters);
    let trained = forward(&policy, &adapters, &inputs);
    let moved = (&trained.actions - &base.actions).abs().max().double_value(&[]);
    assert!(moved > 1e-2, "{name} hardly learned: {moved}");

    let state: BTreeMap<String, Tensor> = adapters.state().into_iter().collect();
    if let Some(scale) = adapters.sites.values().next().map(|lora| lora.scale) {
        let resumed = AdapterSet::from_state(&state, scale, 0.0, Device::Cpu).unwrap();
        assert_eq!(forward(&policy, &resumed, &inputs).actions, trained.actions, "{name} resumed");
    }

    let scratch = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("EVA_RL_METHODS_OUT").map(PathBuf::from);
    let folder = kept.as_deref().unwrap_or(scratch.path()).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let facts = AdapterFolder {
        revision: None,
        base: "plain".to_owned(),
        fingerprint: None,
        rank: 4,
        scaling: SCALING,
        origin: Origin::Lora,
        fan_in_fan_out: true,
        kernels: Default::default(),
    };
    facts.write(&adapters, &folder).unwrap();
    let (facts, again) = AdapterFolder::read(&folder, Device::Cpu).unwrap();
    let fresh = self::policy();
    fresh.check_adapters(&facts, &again, &folder).unwrap();
    let read = forward(&fresh.with_replaced(&again), &again, &inputs);
    assert_close(&read.actions, &trained.actions, 1e-5, &format!("{name}, read back"));
    assert_close(
        read.states.as_ref().unwrap(),
        trained.states.as_ref().unwrap(),
        1e-4,
        &format!("{name}, read back, states"),
    );
    let merged = forward(&self::policy().merged(&adapters), &AdapterSet::default(), &inputs);
    assert_close(&merged.actions, &trained.actions, 1e-5, &format!("{name}, merged"));
    let outputs = [
        ("action_preds".to_owned(), trained.actions),
        ("state_preds".to_owned(), trained.states.unwrap()),
        ("return_preds".to_owned(), trained.returns.unwrap()),
    ];
    tensor_file::write(&outputs, &folder.join("outputs.safetensors")).unwrap();
}

/// A test per method: its adapters are written as plain ones on the untouched base.
macro_rules! test_exports {
    ($($name:ident = $method:expr, dora: $dora:expr;)*) => {
        mod every_method_s_adapters_are_written_as_plain_ones_on_the_untouched_base {
            use super::*;

            $(
                #[test]
                fn $name() {
                    check_export(stringify!($name), initialise(&policy(), &$method), $dora);
                }
            )*

            #[test]
            fn head_only() {
                check_export("head_only", super::head_only(&policy()), false);
            }
        }
    };
}

test_exports! {
    lora = PlainLora(size(4)), dora: false;
    orthogonal = Orthogonal(size(4)), dora: false;
    pissa = PiSsa(size(4)), dora: false;
    milora = MiLora(size(4)), dora: false;
    olora = OLora(size(4)), dora: false;
    corda_ipm = corda(4, Mode::Ipm), dora: false;
    corda_kpm = corda(4, Mode::Kpm), dora: false;
    lora_ga = super::lora_ga(4), dora: false;
    lora_one = LoraOne { lora: size(4), batches: 2, gamma: 128.0 }, dora: false;
    ipa = super::ipa(4), dora: false;
    adalora = super::adalora(4), dora: false;
    pissa_dora = PiSsa(size(3)), dora: true;
    adalora_dora = super::adalora(3), dora: true;
}

#[test]
fn a_frozen_a_stays_and_is_written() {
    let policy = policy();
    let adapters = initialise(&policy, &ipa(4));
    let begun: Vec<Tensor> = adapters.sites.values().map(|lora| lora.down.copy()).collect();
    train(&policy, &adapters);
    let now: Vec<Tensor> = adapters.sites.values().map(|lora| lora.down.copy()).collect();
    assert_eq!(now, begun);
    let all: usize = adapters.sites.values().map(|lora| lora.down.numel() + lora.up.numel()).sum();
    let frozen: usize = begun.iter().map(Tensor::numel).sum();
    assert_eq!(adapters.parameter_count(), all - frozen);
}

#[test]
fn pruned_sites_are_absent_from_the_file_and_their_rows_too() {
    let policy = policy();
    let adapters = initialise(&policy, &adalora(4));
    for (index, lora) in adapters.sites.values().enumerate() {
        let gains = [[0f32, 0.5, 0.0, -0.25], [0.0; 4]][index.min(1)];
        lora.singular_values.as_ref().unwrap().detach().copy_(&Tensor::from_slice(&gains));
    }
    let plain = adapters.to_peft_lora();
    let (site, lora) = plain.sites.first_key_value().unwrap();
    assert_eq!((plain.sites.len(), lora.rank()), (1, 2));
    assert_close(&lora.delta(), &adapters.sites[site].delta(), 1e-7, "the product");
    let nothing = initialise(&policy, &adalora(4)).to_peft_lora();
    assert!(nothing.sites.len() == 8 && nothing.sites.values().all(|lora| lora.rank() == 1));
}

#[test]
fn the_head_alone_is_trained_and_nothing_else() {
    let adapters = head_only(&policy());
    let names: Vec<String> = adapters.parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["predict_action.0.bias", "predict_action.0.weight"]);
    let policy = policy().with_replaced(&adapters);
    train(&policy, &adapters);
    for (name, weight) in self::policy().weights() {
        let same = policy.weights()[name] == *weight;
        assert_eq!(same, !names.contains(name), "{name}");
    }
    let state: BTreeMap<String, Tensor> = adapters.state().into_iter().collect();
    let again = AdapterSet::from_state(&state, 1.0, 0.0, Device::Cpu).unwrap();
    assert_eq!(again.parameters(), adapters.parameters());
}

#[test]
fn orthogonality_is_of_no_concern_to_adapters_without_singular_values() {
    let adapters = initialise(&policy(), &PlainLora(size(4)));
    assert_eq!(orthogonality(&adapters).double_value(&[]), 0.0);
}
