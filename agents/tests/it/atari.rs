//! The Atari decision transformer: what its files say, and what of it learns. `tests/parity.rs` of the program compares
//! its numbers with the reference's.

use std::fs;

use eva_rl_agents::loss::behaviour_cloning;
use eva_rl_agents::model::{
    self, ActionKind, Activation, ForwardContext, Given, Inputs, PolicyConfig, TransformerPolicy,
};
use tch::{Device, Kind, Tensor};

/// A small policy of six actions, with weights from torch's generator.
fn policy() -> TransformerPolicy {
    let config = PolicyConfig {
        model_type: "decision_transformer_atari".to_owned(),
        image_shape: Some([4, 84, 84]),
        state_dim: 4 * 84 * 84,
        act_dim: 6,
        vocab_size: 6,
        hidden_size: 16,
        n_layer: 2,
        n_head: 8,
        max_ep_len: 50,
        n_positions: 13,
        context_length: Some(4),
        action_kind: ActionKind::Discrete,
        action_tanh: false,
        global_positions: true,
        activation_function: Activation::Gelu,
        return_scale: Some(1.0),
        ..PolicyConfig::default()
    };
    model::check_config(&config).unwrap();
    TransformerPolicy::new(config, Device::Cpu)
}

/// Three windows of four steps, the first of which pads in the last window.
fn inputs() -> Inputs {
    let steps = Tensor::arange(4, (Kind::Int64, Device::Cpu));
    let first = Tensor::from_slice(&[0i64, 7, -1]).unsqueeze(1); // [3, 1]
    Inputs {
        states: Tensor::zeros([3, 4, 0], (Kind::Float, Device::Cpu)),
        words: None,
        images: Some(Tensor::randint(256, [3, 4, 4, 84, 84], (Kind::Uint8, Device::Cpu))),
        previous: None,
        actions: Tensor::randint(6, [3, 4], (Kind::Int64, Device::Cpu)).one_hot(6).to_kind(Kind::Float),
        rewards: None,
        returns_to_go: Tensor::rand([3, 4, 1], (Kind::Float, Device::Cpu)),
        timesteps: (&first + &steps).clamp_min(0),
        mask: (&first + &steps).ge(0),
    }
}

fn logits(policy: &TransformerPolicy, inputs: &Inputs) -> Tensor {
    tch::no_grad(|| policy.forward(&mut ForwardContext::bare(), inputs).actions)
}

#[test]
fn a_written_policy_is_read_with_its_config_and_without() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, inputs) = (policy(), inputs());
    model::write(&policy, folder.path()).unwrap();
    let whole = model::read(folder.path(), Given::default(), Device::Cpu).unwrap();
    assert_eq!(whole.config().n_head, 8);
    assert_eq!(logits(&whole, &inputs), logits(&policy, &inputs));

    fs::remove_file(folder.path().join("config.json")).unwrap();
    let bare = model::read(folder.path(), Given::default(), Device::Cpu).unwrap();
    let config = bare.config();
    assert_eq!((config.n_head, config.n_layer, config.hidden_size, config.act_dim), (8, 2, 16, 6));
    assert_eq!((config.max_ep_len, config.n_positions, config.context_length), (50, 13, Some(4)));
    assert_eq!(config.image_shape, Some([4, 84, 84]));
    assert_eq!(config.target_return, None);
    assert_eq!(logits(&bare, &inputs), logits(&policy, &inputs));
}

#[test]
fn a_number_of_heads_that_no_file_says_is_in_the_config() {
    let folder = tempfile::tempdir().unwrap();
    model::write(&policy(), folder.path()).unwrap();
    let text = r#"{"model_type": "decision_transformer_atari", "n_head": 2}"#;
    fs::write(folder.path().join("config.json"), text).unwrap();
    let read = model::read(folder.path(), Given::default(), Device::Cpu).unwrap();
    assert_eq!((read.config().n_head, read.config().n_layer), (2, 2));

    fs::write(folder.path().join("config.json"), text.replace('2', "3")).unwrap();
    let error = model::read(folder.path(), Given::default(), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("`n_head` is 3, expected a divisor of hidden_size 16"), "{error}");
}

#[test]
fn padding_changes_nothing_of_what_follows() {
    let (policy, inputs) = (policy(), inputs());
    let padded = logits(&policy, &inputs).get(2); // [T, A]
    let narrow = |x: &Tensor| x.narrow(0, 2, 1).narrow(1, 1, 3);
    let alone = Inputs {
        states: narrow(&inputs.states),
        words: None,
        images: inputs.images.as_ref().map(narrow),
        previous: None,
        actions: narrow(&inputs.actions),
        rewards: None,
        returns_to_go: narrow(&inputs.returns_to_go),
        timesteps: narrow(&inputs.timesteps),
        mask: narrow(&inputs.mask),
    };
    let difference = (padded.narrow(0, 1, 3) - logits(&policy, &alone).get(0)).abs().max();
    assert!(difference.double_value(&[]) < 1e-6, "{difference:?}");
}

#[test]
fn every_tensor_that_the_policy_reads_learns() {
    let mut policy = policy();
    policy.unfreeze();
    behaviour_cloning(&policy, &mut ForwardContext::bare(), &inputs()).backward();
    for (name, weight) in policy.weights() {
        let learns = weight.grad().defined() && weight.grad().abs().max().double_value(&[]) > 0.0;
        // Nobody reads minGPT's word embedding, and attention does not depend on what all keys have in common.
        let idle = name == "tok_emb.weight" || name.ends_with("attn.key.bias");
        assert!(learns || idle, "{name}");
    }
}

#[test]
fn a_published_game_is_known_by_its_file_s_name_and_its_shape() {
    let folder = tempfile::tempdir().unwrap();
    let config = PolicyConfig { hidden_size: 128, n_layer: 6, ..policy().config().clone() };
    model::write(&TransformerPolicy::new(config, Device::Cpu), folder.path()).unwrap();
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let target = |name: &str| {
        let to = folder.path().join(name);
        fs::copy(folder.path().join("model.safetensors"), &to).unwrap();
        let read = model::Policy::read(&to, Given::default(), Device::Cpu).unwrap();
        read.config().target_return
    };
    assert_eq!(target("Pong_123.safetensors"), Some(20.0));
    assert_eq!(target("qbert.safetensors"), Some(14000.0)); // six actions too
    assert_eq!(target("Seaquest_123.safetensors"), None); // of 18 actions
    assert_eq!(target("mine.safetensors"), None);
}
