//! Adapters of convolutions, against PEFT and numpy (fixtures by `tools/golden/golden_convolutions.py`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eva_rl_agents::adapter::site::{ModuleName, Site};
use eva_rl_agents::adapter::{self, AdapterFolder, AdapterSet, Rank, Scaling};
use eva_rl_agents::loss::behaviour_cloning;
use eva_rl_agents::model::{ForwardContext, FusedLora, Inputs, Policy, Token, TransformerPolicy};
use eva_rl_agents::optimiser::{Optimiser, Settings};
use tch::{Device, Kind, Tensor};

use crate::support::{golden, read_adapter, tensors};

const CONVOLUTIONS: [&str; 3] = ["state_encoder.0", "state_encoder.2", "state_encoder.4"];

/// A policy over frames, and the reference's windows for it.
fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/parity/atari-dt-3")
}

fn policy() -> TransformerPolicy {
    match Policy::read(&base().join("model.pth"), None, Device::Cpu).unwrap() {
        Policy::Transformer(policy) => policy,
        Policy::TorchScript(_) => unreachable!("it is a state dict"),
    }
}

/// Two windows of three steps.
fn inputs() -> Inputs {
    let window = tensors(&base().join("window.safetensors"));
    let actions = window["in.actions"].squeeze_dim(-1); // [B, T]
    Inputs {
        states: window["in.states_uint8"].shallow_clone(),
        mask: actions.ge(0),
        timesteps: window["in.timesteps"].squeeze_dim(-1).repeat([1, 3]),
        actions: actions.one_hot(18).to_kind(Kind::Float),
        rewards: None,
        returns_to_go: window["in.rtgs"].shallow_clone(),
    }
}

/// The convolutions, and the linear layer after them.
fn encoder_sites(policy: &TransformerPolicy) -> Vec<Site> {
    let of_encoder = |site: &&Site| site.module.as_str().starts_with("state_encoder.");
    policy.all_sites().iter().filter(of_encoder).cloned().collect()
}

/// Random adapters of the encoder's modules and of every module of the blocks, all away from zero.
fn adapters(policy: &TransformerPolicy) -> AdapterSet {
    tch::manual_seed(5);
    let mut set = AdapterSet::default();
    let scaling = Scaling { alpha: 4.0, rank_stabilised: false };
    for site in encoder_sites(policy).iter().chain(policy.sites()) {
        let rank = Rank::try_from(2).unwrap();
        let lora = adapter::lora(site.input, site.output, rank, scaling, Device::Cpu);
        let _ = tch::no_grad(|| lora.up.shallow_clone().normal_(0.0, 0.1));
        set.sites.insert(site.module.clone(), lora);
    }
    set
}

fn embed(policy: &TransformerPolicy, adapters: &AdapterSet, inputs: &Inputs) -> Tensor {
    policy.embed(&mut ForwardContext::with_adapters(adapters), inputs, Token::State).flatten(0, 1) // [N, D]
}

fn logits(policy: &TransformerPolicy, adapters: &AdapterSet, inputs: &Inputs) -> Tensor {
    tch::no_grad(|| policy.forward(&mut ForwardContext::with_adapters(adapters), inputs).actions)
}

#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor, share: f64, what: &str) {
    let difference = (found - expected).abs().max().double_value(&[]);
    let size = expected.abs().max().double_value(&[]);
    assert!(difference <= share * size, "{what} differs by {difference} of {size}");
}

/// PEFT's outputs, gradients and merged weights, and its folder as we write it.
#[track_caller]
fn check_peft(name: &str) {
    let (policy, inputs) = (policy(), inputs());
    let folder = golden("convolutions").join(name);
    let (facts, set) = read_adapter(&folder, &policy);
    let expected = tensors(&folder.with_extension("safetensors"));
    let outputs = embed(&policy, &set, &inputs);
    assert_close(&outputs, &expected["outputs"], 1e-5, "an output");
    let plain = embed(&policy, &AdapterSet::default(), &inputs);
    assert!((plain - &outputs).abs().max().double_value(&[]) > 0.1, "{name} does something");

    outputs.square().mean(Kind::Float).backward();
    let mut compared = 0;
    for (key, gradient) in &expected {
        let Some(key) = key.strip_prefix("gradient.") else { continue };
        let key =
            key.strip_suffix("_vector.weight").map_or(key.to_owned(), |start| format!("{start}_vector"));
        let (_, parameter) = set.parameters().into_iter().find(|(name, _)| *name == key).unwrap();
        assert_close(&parameter.grad().flatten(0, -1), &gradient.flatten(0, -1), 1e-5, &key);
        compared += 1;
    }
    assert_eq!(compared, set.parameters().len());

    let merged = policy.merged(&set);
    assert_close(&embed(&merged, &AdapterSet::default(), &inputs), &expected["outputs"], 1e-5, "merged");
    for module in CONVOLUTIONS {
        let channels = merged.weights()[&format!("{module}.weight")].narrow(0, 0, 2);
        assert_close(&channels, &expected[&format!("merged.{module}")], 1e-6, module);
    }

    let written = tempfile::tempdir().unwrap();
    facts.write(&set, written.path()).unwrap();
    let file = |folder: &Path| tensors(&folder.join("adapter_model.safetensors"));
    assert_eq!(file(written.path()), file(&folder));
    let (again, _) = read_adapter(written.path(), &policy);
    assert_eq!(again, facts);
}

#[test]
fn lora_is_peft_s() {
    check_peft("lora");
}

#[test]
fn dora_is_peft_s() {
    check_peft("dora");
}

#[test]
fn a_magnitude_starts_at_the_norm_of_a_channel_s_kernel() {
    let policy = policy();
    let mut set = AdapterSet::default();
    for site in encoder_sites(&policy) {
        let down = Tensor::randn([2, site.input], (Kind::Float, Device::Cpu));
        set.sites.insert(site.module.clone(), adapter::from_down(down, site.output, 1.0));
    }
    policy.init_dora(&mut set);
    let magnitude = set.sites[&ModuleName::from("state_encoder.2")].magnitude.as_ref().unwrap();
    let weight = &policy.weights()["state_encoder.2.weight"];
    assert_close(
        magnitude,
        &weight.square().flatten(1, -1).sum_dim_intlist(1, false, Kind::Float).sqrt(),
        1e-6,
        "it",
    );
    // B is zero, so the policy is the base to the last bit.
    let inputs = inputs();
    assert_eq!(logits(&policy, &set, &inputs), logits(&policy, &AdapterSet::default(), &inputs));
}

#[test]
fn a_checkpoint_keeps_them() {
    let (policy, inputs) = (policy(), inputs());
    let set = adapters(&policy);
    let state: BTreeMap<String, Tensor> = set.state().into_iter().collect();
    let again = AdapterSet::from_state(&state, 2.0, 0.0, Device::Cpu).unwrap();
    assert_eq!(logits(&policy, &again, &inputs), logits(&policy, &set, &inputs));
}

#[test]
fn an_adapter_of_another_kernel_is_refused_by_name() {
    let policy = policy();
    let (facts, set) = read_adapter(&golden("convolutions/lora"), &policy);
    let refused = |facts: &AdapterFolder| {
        let folder = tempfile::tempdir().unwrap();
        facts.write(&set, folder.path()).unwrap();
        let (facts, set) = AdapterFolder::read(folder.path(), Device::Cpu).unwrap();
        policy.check_adapters(&facts, &set, folder.path()).unwrap_err().to_string()
    };
    let mut other = facts.clone();
    other.kernels.insert("state_encoder.2".into(), [8, 8, 8]);
    let error = refused(&other);
    let words = "holds `state_encoder.2`, which is the adapter of a convolution with kernel [8, 8, 8], expected a convolution with kernel [32, 4, 4]";
    assert!(error.contains(words), "{error}");
    let error = refused(&AdapterFolder { kernels: BTreeMap::new(), ..facts });
    assert!(error.contains("is the adapter of a linear module, expected a convolution"), "{error}");
}

#[test]
fn dropout_is_of_the_pixels_that_the_adapter_reads() {
    let (policy, inputs) = (policy(), inputs());
    let set = AdapterSet { dropout: 0.5, ..adapters(&policy) };
    let mean = |set: &AdapterSet| {
        let pass = || {
            let context = &mut ForwardContext::with_adapters(set).train(true);
            policy.embed(context, &inputs, Token::State)
        };
        tch::manual_seed(1);
        tch::no_grad(|| {
            Tensor::stack(&(0..200).map(|_| pass()).collect::<Vec<_>>(), 0).mean_dim(0, false, Kind::Float)
        })
    };
    let only = |module: &str, dropout| {
        let mut one = AdapterSet { dropout, ..AdapterSet::default() };
        let lora = &set.sites[&ModuleName::from(module)];
        one.sites.insert(module.into(), lora.to_kind(Kind::Float));
        one
    };
    // A linear map of what is left is right in the mean; what follows it is nearly linear in small changes.
    let whole = mean(&only("state_encoder.4", 0.0));
    let base = mean(&AdapterSet::default());
    let dropped = mean(&only("state_encoder.4", 0.1));
    let (moved, off) = ((&whole - base).norm().double_value(&[]), (dropped - whole).norm().double_value(&[]));
    assert!(off > 0.0 && off < 0.1 * moved, "{off} of {moved}");
    behaviour_cloning(&policy, &mut ForwardContext::with_adapters(&set).train(true), &inputs).backward();
    assert!(set.parameters().iter().all(|(_, tensor)| tensor.grad().abs().max().double_value(&[]) > 0.0));
}

#[test]
fn fused_updates_have_autograd_s_gradients() {
    let (policy, set, inputs) = (policy(), adapters(&policy()), inputs());
    // Copies, until the blocks have rows enough for oneDNN.
    let repeat = |x: &Tensor| x.repeat_interleave_self_int(60, 0, None);
    let inputs = Inputs {
        states: repeat(&inputs.states),
        actions: repeat(&inputs.actions),
        rewards: None,
        returns_to_go: repeat(&inputs.returns_to_go),
        timesteps: repeat(&inputs.timesteps),
        mask: repeat(&inputs.mask),
    };
    let gradients = || {
        let take = |(_, mut parameter): (String, Tensor)| {
            let gradient = parameter.grad().copy();
            parameter.zero_grad();
            gradient
        };
        set.parameters().into_iter().map(take).collect::<Vec<Tensor>>()
    };
    behaviour_cloning(&policy, &mut ForwardContext::with_adapters(&set), &inputs).backward();
    let expected = gradients();
    let mut fused = FusedLora::default();
    let loss =
        behaviour_cloning(&policy, &mut ForwardContext::with_adapters(&set).fused(&mut fused), &inputs);
    let trained: Vec<Tensor> = set.parameters().into_iter().map(|(_, tensor)| tensor).collect();
    fused.backward(&loss, &set, &trained);
    for (((name, _), found), expected) in set.parameters().iter().zip(&gradients()).zip(&expected) {
        assert!(expected.abs().max().double_value(&[]) > 0.0, "{name}");
        assert_close(found, expected, 1e-3, name);
    }
}

#[test]
fn they_learn_and_so_does_the_whole_policy() {
    let inputs = inputs();
    let falls = |policy: &TransformerPolicy, set: &AdapterSet, parameters: Vec<(String, Tensor)>, rate| {
        let mut optimiser = Optimiser::new(parameters, Settings::default());
        let mut losses = Vec::new();
        for _ in 0..12 {
            optimiser.zero_grad();
            let loss = behaviour_cloning(policy, &mut ForwardContext::with_adapters(set), &inputs);
            losses.push(loss.double_value(&[]));
            loss.backward();
            optimiser.step(rate);
        }
        assert!(losses[11] < 0.8 * losses[0], "{losses:?}");
    };
    let policy = policy();
    let mut set = adapters(&policy);
    set.sites.retain(|module, _| CONVOLUTIONS.contains(&module.as_str()));
    policy.init_dora(&mut set);
    falls(&policy, &set, set.parameters(), 0.02);

    let mut policy = self::policy();
    policy.unfreeze();
    let weights = policy.weights().iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
    let parameters = weights.filter(|(name, _)| name != "tok_emb.weight").collect(); // which nobody reads
    falls(&policy, &AdapterSet::default(), parameters, 1e-3);
}
