//! Adapters of convolutions, against PEFT and numpy (fixtures by `tools/golden/golden_convolutions.py`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eva_rl_agents::adapter::site::{ModuleName, Site};
use eva_rl_agents::adapter::{self, AdapterFolder, AdapterSet, LoraOptions, Rank, Scaling, fingerprint};
use eva_rl_agents::adapter_init::eva::{EvaOptions, EvaResult, SolverKind};
use eva_rl_agents::adapter_init::{
    AdaLora, AdapterMethod, CorDa, Ipa, LoraGa, LoraOne, MiLora, Mode, OLora, Orthogonal, PiSsa, PlainLora,
    TaskData, WithDefaults,
};
use eva_rl_agents::loss::behaviour_cloning;
use eva_rl_agents::model::{ForwardContext, FusedLora, Given, Inputs, Policy, Token, TransformerPolicy};
use eva_rl_agents::optimiser::{Optimiser, Settings};
use eva_rl_agents::tensor::file as tensor_file;
use tch::{Device, Kind, Tensor};

use crate::support::{golden, read_adapter, tensors};

const CONVOLUTIONS: [&str; 3] = ["state_encoder.0", "state_encoder.2", "state_encoder.4"];

/// A policy over frames, and the reference's windows for it.
fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/parity/atari-dt-3")
}

fn policy() -> TransformerPolicy {
    match Policy::read(&base().join("model.pth"), Given::default(), Device::Cpu).unwrap() {
        Policy::Transformer(policy) => policy,
        Policy::TorchScript(_) => unreachable!("it is a state dict"),
    }
}

/// Two windows of three steps.
fn inputs() -> Inputs {
    let window = tensors(&base().join("window.safetensors"));
    let actions = window["in.actions"].squeeze_dim(-1); // [B, T]
    Inputs {
        states: Tensor::zeros([2, 3, 0], (Kind::Float, Device::Cpu)),
        words: None,
        images: Some(window["in.states_uint8"].shallow_clone()),
        mask: actions.ge(0),
        timesteps: window["in.timesteps"].squeeze_dim(-1).repeat([1, 3]),
        previous: None,
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

fn convolutions(policy: &TransformerPolicy) -> Vec<Site> {
    policy.all_sites().iter().filter(|site| site.kernel.is_some()).cloned().collect()
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

/// A few updates of `parameters`, and the loss before each.
fn train(
    policy: &TransformerPolicy,
    set: &AdapterSet,
    parameters: Vec<(String, Tensor)>,
    rate: f64,
    inputs: &Inputs,
) -> Vec<f64> {
    let mut optimiser = Optimiser::new(parameters, Settings::default());
    let update = |_| {
        optimiser.zero_grad();
        let loss = behaviour_cloning(policy, &mut ForwardContext::with_adapters(set), inputs);
        loss.backward();
        optimiser.step(rate);
        loss.double_value(&[])
    };
    (0..12).map(update).collect()
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
fn convolutions_are_adapted_where_they_are_named() {
    let policy = policy();
    let named = |ends: &[&str]| {
        let ends: Vec<String> = ends.iter().map(|end| (*end).to_owned()).collect();
        let sites = policy.sites_named(&ends).map_err(|error| error.to_string())?;
        Ok::<_, String>(sites.iter().map(|site| site.module.to_string()).collect::<Vec<String>>())
    };
    let linear: Vec<String> = policy.sites().map(|site| site.module.to_string()).collect();
    assert_eq!(named(&[]).unwrap(), linear);
    assert_eq!(
        named(&["attn.query", "state_encoder.2"]).unwrap(),
        ["state_encoder.2", "blocks.0.attn.query"]
    );
    assert!(named(&["head"]).unwrap_err().starts_with("`target_modules` names `head`, which ends no module"));
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
        words: None,
        images: inputs.images.as_ref().map(repeat),
        previous: None,
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
    let falls = |policy: &TransformerPolicy, set: &AdapterSet, parameters, rate| {
        let losses = train(policy, set, parameters, rate, &inputs);
        assert!(losses.last() < losses.first().map(|first| 0.8 * first).as_ref(), "{losses:?}");
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

/// The windows as a method looks at them: one batch, again and again.
struct Windows(fn() -> Inputs);

impl TaskData for Windows {
    fn batches_per_pass(&self) -> usize {
        1
    }

    fn batch_of_pass(&mut self, _: usize, _: usize) -> Inputs {
        (self.0)()
    }

    fn sampled_batch(&mut self, _: usize) -> Inputs {
        (self.0)()
    }
}

fn rank(rank: u16) -> Rank {
    Rank::try_from(rank).unwrap()
}

fn eva(options: EvaOptions, sites: &[Site], windows: fn() -> Inputs) -> (AdapterSet, EvaResult<ModuleName>) {
    let made = options.initialise(&policy(), sites, &mut Windows(windows), &mut |_| {}).unwrap();
    (made.adapters.unwrap(), made.eva.unwrap())
}

/// Mean square cosine between the spans of orthonormal rows: `[R, in]` each.
fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    a.detach().matmul(&b.tr()).square().sum(Kind::Double).double_value(&[]) / a.size()[0] as f64
}

#[test]
fn eva_finds_numpy_s_components_of_all_patches() {
    let expected = tensors(&golden("convolutions/components.safetensors"));
    let exact = EvaOptions { solver: SolverKind::Gram, rho: 1.0, ..EvaOptions::new(rank(4)) };
    let sites = convolutions(&policy());
    let (adapters, found) = eva(EvaOptions { patches: 400, ..exact.clone() }, &sites, inputs);
    let (sampled, _) = eva(EvaOptions { patches: 16, ..exact }, &sites, inputs);
    for module in CONVOLUTIONS {
        let down = &adapters.sites[&ModuleName::from(module)].down;
        let wanted = &expected[&format!("{module}.components")];
        assert!((cosine(down, wanted) - 1.0).abs() < 1e-5, "{module}: {}", cosine(down, wanted));
        let report = found.sites.iter().find(|report| report.site.as_str() == module).unwrap();
        assert_close(
            &Tensor::from_slice(&report.explained),
            &expected[&format!("{module}.explained")],
            1e-5,
            module,
        );
        // Six frames are few: what 16 patches of each find is near.
        let found = cosine(&sampled.sites[&ModuleName::from(module)].down, wanted);
        assert!(found < 1.0 - 1e-4 && found > 0.6, "{module}: {found}");
    }
}

#[test]
fn convolutions_share_the_rank_budget_with_linear_modules() {
    let policy = policy();
    let sites: Vec<Site> = encoder_sites(&policy).into_iter().chain(policy.sites().cloned()).collect();
    let (adapters, found) = eva(EvaOptions::new(rank(3)), &sites, inputs);
    assert_eq!(found.sites.iter().map(|report| report.rank).sum::<i64>(), 3 * sites.len() as i64);
    assert!(found.sites.iter().all(|report| report.rank <= 6));
    for module in CONVOLUTIONS {
        assert!(adapters.get(&module.into()).is_some_and(|lora| lora.rank() > 0), "{module}");
    }
    let inputs = inputs();
    assert_eq!(logits(&policy, &adapters, &inputs), logits(&policy, &AdapterSet::default(), &inputs));
}

#[test]
fn patches_are_drawn_alike_whenever_the_search_is_the_same() {
    let sites = convolutions(&policy());
    let options = EvaOptions { patches: 4, solver: SolverKind::Gram, ..EvaOptions::new(rank(3)) };
    let [(first, _), (second, _)] = [(); 2].map(|()| eva(options.clone(), &sites, inputs));
    assert_eq!(first.state(), second.state());
}

#[test]
fn frames_of_padding_never_reach_eva() {
    fn padded(junk: f64) -> Inputs {
        let mut inputs = inputs();
        let mask = Tensor::from_slice(&[false, true, true]).repeat([2, 1]); // [B, T]
        let frames = mask.logical_not().view([2, 3, 1, 1, 1]);
        inputs.states = inputs.states.masked_fill(&frames, junk);
        Inputs { mask, ..inputs }
    }
    let sites = convolutions(&policy());
    let options = EvaOptions { patches: 49, solver: SolverKind::Gram, ..EvaOptions::new(rank(3)) };
    let (quiet, _) = eva(options.clone(), &sites, || padded(0.0));
    let (loud, _) = eva(options, &sites, || padded(255.0));
    assert_eq!(quiet.state(), loud.state());
}

#[test]
fn every_method_initialises_convolutions_at_the_base() {
    let lora = || LoraOptions { alpha: 6.0, ..LoraOptions::new(rank(4)) };
    let corda = |mode| CorDa { lora: lora(), batches: 1, mode };
    let methods: Vec<(&str, Box<dyn AdapterMethod>)> = vec![
        ("lora", Box::new(PlainLora(lora()))),
        ("orthogonal", Box::new(Orthogonal(lora()))),
        ("pissa", Box::new(PiSsa(lora()))),
        ("milora", Box::new(MiLora(lora()))),
        ("olora", Box::new(OLora(lora()))),
        ("corda_ipm", Box::new(corda(Mode::Ipm))),
        ("corda_kpm", Box::new(corda(Mode::Kpm))),
        ("lora_ga", Box::new(LoraGa { lora: lora(), batches: 1, gamma: 16.0 })),
        ("lora_one", Box::new(LoraOne { lora: lora(), batches: 1, gamma: 128.0 })),
        ("ipa", Box::new(Ipa { lora: lora(), batches: 1, frozen: false })),
        ("adalora", Box::new(AdaLora::with_defaults(lora(), 100))),
        ("eva", Box::new(EvaOptions::new(rank(4)))),
        (
            "eva_dora",
            Box::new(EvaOptions { lora: LoraOptions { dora: true, ..lora() }, ..EvaOptions::new(rank(4)) }),
        ),
    ];
    let (policy, inputs) = (policy(), inputs());
    let sites = convolutions(&policy);
    let base = logits(&policy, &AdapterSet::default(), &inputs);
    for (name, method) in methods {
        let dora = method.lora().is_some_and(|lora| lora.dora);
        let made = method.initialise(&policy, &sites, &mut Windows(self::inputs), &mut |_| {}).unwrap();
        let mut set = made.adapters.unwrap();
        if dora {
            policy.init_dora(&mut set);
        }
        let found = logits(&policy, &set, &inputs);
        match name {
            "lora_one" => assert!(found != base, "{name} is a step away"),
            _ => assert_eq!(found, base, "{name}"),
        }
        train(&policy, &set, set.parameters(), 3e-3, &inputs);
        let trained = logits(&policy, &set, &inputs);
        assert!((&trained - &base).abs().max().double_value(&[]) > 1e-3, "{name} hardly learned");
        check_export(name, &policy, method.as_ref(), &set);
        let merged = logits(&policy.merged(&set), &AdapterSet::default(), &inputs);
        assert_close(&merged, &trained, 1e-4, name);
    }
}

/// Writes and reads back. The files stay in the folder that the variable `EVA_RL_CONVOLUTIONS_OUT` names, if it does,
/// for `tools/interop/check_convolutions.py`, which gives them to PEFT.
#[track_caller]
fn check_export(name: &str, policy: &TransformerPolicy, method: &dyn AdapterMethod, set: &AdapterSet) {
    let scratch = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("EVA_RL_CONVOLUTIONS_OUT").map(PathBuf::from);
    let folder = kept.as_deref().unwrap_or(scratch.path()).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let facts = AdapterFolder {
        revision: None,
        base: "atari-dt-3".to_owned(),
        fingerprint: Some(fingerprint(policy.weights())),
        rank: 4,
        scaling: method.lora().unwrap().scaling(),
        origin: method.origin(),
        fan_in_fan_out: false,
        kernels: policy.kernels(),
    };
    facts.write(set, &folder).unwrap();
    let (read, again) = read_adapter(&folder, policy);
    assert_eq!(read.origin, facts.origin);
    let outputs = embed(policy, set, &inputs()).detach();
    assert_close(&embed(policy, &again, &inputs()), &outputs, 1e-5, name);
    tensor_file::write(&[("outputs".to_owned(), outputs)], &folder.join("outputs.safetensors")).unwrap();
}
