//! What a learner trains, and what it leaves as it is.

use eva_rl_agents::adapter::site::ModuleName;
use eva_rl_agents::adapter::{Lora, Origin, Rank, Scaling, lora};
use eva_rl_agents::model::Activation;
use eva_rl_agents::ranks::OneRank;
use tch::Kind;

use super::*;
use crate::config;

fn plan() -> RunPlan {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/demo.toml");
    config::load(&demo, &[]).unwrap().plan().unwrap()
}

fn facts(scaling: Scaling) -> AdapterFolder {
    let origin = Origin::Lora;
    AdapterFolder {
        revision: None,
        base: String::new(),
        fingerprint: None,
        rank: 2,
        scaling,
        origin,
        fan_in_fan_out: true,
        kernels: Default::default(),
    }
}

fn base() -> TransformerPolicy {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents/tests/golden/policies/plain");
    model::read(&folder, model::Given::default(), Device::Cpu).unwrap()
}

fn inputs(policy: &TransformerPolicy) -> Inputs {
    let float = (Kind::Float, Device::Cpu);
    Inputs {
        states: Tensor::randn([4, 3, policy.config().state_dim], float),
        words: None,
        images: None,
        previous: None,
        actions: Tensor::rand([4, 3, policy.config().act_dim], float) * 2.0 - 1.0,
        rewards: None,
        returns_to_go: Tensor::randn([4, 3, 1], float),
        timesteps: Tensor::arange(3, (Kind::Int64, Device::Cpu)).repeat([4, 1]),
        mask: Tensor::ones([4, 3], (Kind::Bool, Device::Cpu)),
    }
}

#[test]
fn adaptation_changes_every_adapter_and_leaves_the_base_bit_for_bit() {
    let (plan, untouched, policy) = (plan(), base(), base());
    let (rank, scaling) = (Rank::try_from(2).unwrap(), Scaling { alpha: 2.0, rank_stabilised: false });
    let mut adapters = AdapterSet::default();
    for site in policy.sites() {
        let lora = lora(site.input, site.output, rank, scaling, Device::Cpu);
        adapters.sites.insert(site.module.clone(), lora);
    }
    policy.init_dora(&mut adapters);
    let begun: Vec<Tensor> = adapters.parameters().iter().map(|(_, tensor)| tensor.detach().copy()).collect();
    let facts = facts(scaling);
    let inputs = inputs(&policy);
    let mut learner = Learner::new(policy, Some((facts, adapters)), &plan);
    for update in 0..10 {
        let update_loss = learner.loss(&inputs, None);
        learner.descend(&update_loss, update, 10, &plan.optimiser, &OneRank, false).unwrap();
    }
    for ((name, now), begun) in learner.adapters.parameters().iter().zip(begun) {
        assert_ne!(*now, begun, "{name} did not change");
    }
    assert_eq!(learner.policy.weights(), untouched.weights());
    assert_ne!(learner.acting().weights(), untouched.weights());
}

/// The loss of a first update, and the gradient that it leaves at each of the adapters' tensors.
fn first_update(
    precision: Precision,
    policy: &TransformerPolicy,
    adapters: AdapterSet,
    inputs: &Inputs,
) -> (f64, Vec<(String, Tensor)>) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/demo-lora.toml");
    let mut config = config::load(&demo, &["loss={ behaviour_cloning = {} }".to_owned()]).unwrap();
    (config.online, config.optimiser.precision) = (None, precision);
    let scaling = Scaling { alpha: 2.0, rank_stabilised: false };
    let facts = facts(scaling);
    let policy = policy.merged(&AdapterSet::default()); // a copy
    let learner = Learner::new(policy, Some((facts, adapters)), &config.plan().unwrap());
    let update_loss = learner.loss(inputs, None);
    update_loss.fused.backward(&update_loss.loss, &learner.adapters, &learner.optimiser.parameters());
    let parameters = learner.adapters.parameters().into_iter();
    (update_loss.loss.double_value(&[]), parameters.map(|(name, tensor)| (name, tensor.grad())).collect())
}

#[test]
fn mixed_precision_has_single_precision_s_gradients_to_bfloat16_s_digits() {
    // Smooth, because rounding may put a number on the other side of relu's corner.
    let smooth_without_dropout = model::PolicyConfig {
        activation_function: Activation::Silu,
        resid_pdrop: 0.0,
        embd_pdrop: 0.0,
        attn_pdrop: 0.0,
        ..base().config().clone()
    };
    let policy = TransformerPolicy::new(smooth_without_dropout, Device::Cpu);
    let inputs = inputs(&policy);
    let (rank, scaling) = (Rank::try_from(2).unwrap(), Scaling { alpha: 2.0, rank_stabilised: false });
    for dora in [false, true] {
        let (mut one, mut other) = (AdapterSet::default(), AdapterSet::default());
        for site in policy.sites() {
            let lora = lora(site.input, site.output, rank, scaling, Device::Cpu);
            let up = Tensor::randn([site.output, 2], (Kind::Float, Device::Cpu));
            let down = lora.down.detach();
            for set in [&mut one, &mut other] {
                set.sites.insert(site.module.clone(), Lora::new(down.copy(), up.copy() * 0.1, lora.scale));
            }
        }
        if dora {
            [&mut one, &mut other].into_iter().for_each(|set| policy.init_dora(set));
        }
        let (single, exact) = first_update(Precision::Single, &policy, one, &inputs);
        let (mixed, rounded) = first_update(Precision::Mixed, &policy, other, &inputs);
        assert!((mixed / single - 1.0).abs() < 0.02 && mixed != single, "{mixed}, {single}");
        for ((name, exact), (_, rounded)) in exact.iter().zip(&rounded) {
            assert_eq!(rounded.kind(), Kind::Float, "{name}");
            let along = (rounded * exact).sum(Kind::Float) / (rounded.norm() * exact.norm());
            let along = along.double_value(&[]);
            assert!(along > 0.99, "the gradient of {name} points elsewhere: {along}");
        }
    }
}

#[test]
fn an_update_that_is_not_finite_changes_nothing() {
    let (plan, policy) = (plan(), base());
    let good = inputs(&policy);
    let mut learner = Learner::new(policy, None, &plan);
    let numbers = |learner: &Learner| -> Vec<(String, Tensor)> {
        let weights = learner.policy.weights().iter().map(|(name, x)| (name.clone(), x.shallow_clone()));
        weights.chain(learner.state()).map(|(name, x)| (name, x.detach().copy())).collect()
    };
    let begun = numbers(&learner);
    let spoilt = Inputs { states: &good.states * f64::NAN, ..good };
    let update_loss = learner.loss(&spoilt, None);
    assert_eq!(
        learner.descend(&update_loss, 0, 2, &plan.optimiser, &OneRank, false).unwrap_err(),
        "the loss is NaN"
    );
    assert_eq!(numbers(&learner), begun);

    let good = inputs(&learner.policy);
    let update_loss = learner.loss(&good, None);
    let spoilt = update_loss.temperature.as_ref().map(|loss| loss * f64::INFINITY);
    let update_loss = UpdateLoss { temperature: spoilt, ..update_loss };
    let said = learner.descend(&update_loss, 0, 2, &plan.optimiser, &OneRank, false).unwrap_err();
    assert!(said.starts_with("the temperature's loss is "), "{said}");
    assert_eq!(numbers(&learner), begun);

    let update_loss = learner.loss(&good, None);
    learner.descend(&update_loss, 0, 2, &plan.optimiser, &OneRank, false).unwrap();
    let moved = numbers(&learner);
    let changed = |wanted: &str| {
        let now = moved.iter().zip(&begun).find(|((name, _), _)| name == wanted);
        now.is_some_and(|((_, now), (_, begun))| now != begun)
    };
    assert!(changed("head.log_temperature") && changed("head.spread.bias"));
}

#[test]
fn the_module_that_is_not_finite_is_found_and_a_batch_too() {
    let policy = base();
    let (module, inputs) = (ModuleName::from("encoder.h.0.mlp.c_fc"), inputs(&policy));
    let learner = Learner::new(policy, None, &plan());
    assert_eq!(learner.first_not_finite(&inputs), None);
    let mut bias = learner.policy.weights()[&format!("{module}.bias")].shallow_clone();
    let _ = tch::no_grad(|| bias.fill_(f64::INFINITY));
    assert_eq!(learner.first_not_finite(&inputs), Some(NonFiniteSource::Module(module)));
    let spoilt = Inputs { states: &inputs.states * f64::NAN, ..inputs };
    assert_eq!(learner.first_not_finite(&spoilt), Some(NonFiniteSource::Batch("embed_state".into())));
}

#[test]
fn full_fine_tuning_changes_the_policy_and_frozen_copies_do_not_follow() {
    let (plan, policy) = (plan(), base());
    let inputs = inputs(&policy);
    let mut learner = Learner::new(policy, None, &plan);
    let acting = learner.acting();
    let update_loss = learner.loss(&inputs, None);
    learner.descend(&update_loss, 0, 1, &plan.optimiser, &OneRank, false).unwrap();
    let name = "encoder.h.0.mlp.c_fc.weight";
    assert_eq!(acting.weights()[name], base().weights()[name]);
    assert_ne!(learner.policy.weights()[name], base().weights()[name]);
    assert!(!acting.weights()[name].requires_grad());
}
