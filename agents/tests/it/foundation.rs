//! Policies whose attention knows places otherwise, by ALiBi or by windows of some blocks: contexts in a cache against
//! whole forwards, and files that are written back whole.

use std::path::Path;

use eva_rl_agents::model::{
    self, ActionKind, Given, Inputs, Previous, Spaces, TransformerPolicy, cached_context_len, resets_context,
};
use tch::{Device, Kind, Tensor};

use crate::support::tensors;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/parity").join(name)
}

fn vintix() -> TransformerPolicy {
    let given = Given { task: Some("Walker2d-v4"), ..Given::default() };
    model::read(&folder("vintix-2"), given, Device::Cpu).unwrap()
}

/// Whose blocks see six tokens back by turns, fewer than a window has.
fn jat(action_kind: ActionKind) -> TransformerPolicy {
    let policy = model::read(&folder("jat-3"), Given::default(), Device::Cpu).unwrap();
    policy
        .fitted(&Spaces { numbers: 5, ids: false, grid: None, image: None, action_kind, act_dim: 3 })
        .unwrap()
}

/// An episode, a batch of one.
fn episode(policy: &TransformerPolicy, steps: i64) -> Inputs {
    let config = policy.config();
    let normal = |width| Tensor::randn([1, steps, width], (Kind::Float, Device::Cpu));
    let actions = normal(config.act_dim);
    Inputs {
        states: normal(config.state_dim),
        words: None,
        images: None,
        previous: Some(Previous { actions: normal(config.act_dim), rewards: normal(1) }),
        actions: match config.action_kind {
            ActionKind::Discrete => actions.argmax(-1, false).one_hot(config.act_dim).to_kind(Kind::Float),
            _ => actions,
        },
        rewards: None,
        returns_to_go: normal(1),
        timesteps: Tensor::arange(steps, (Kind::Int64, Device::Cpu)).unsqueeze(0),
        mask: Tensor::ones([1, steps], (Kind::Bool, Device::Cpu)),
    }
}

#[track_caller]
fn check_cache(policy: &TransformerPolicy) {
    let _guard = tch::no_grad_guard();
    let (longest, steps) = (6, 15);
    let episode = episode(policy, steps);
    let mut cache = policy.cache(1, longest);
    for seen in 1..=steps as usize {
        let window = |count: usize| episode.steps((seen - count) as i64, count as i64);
        let context = cached_context_len(seen, longest);
        let found = match resets_context(seen, longest) {
            true => policy.prefill(&mut cache, &[0], &window(context)),
            false => policy.decode_step(&mut cache, &[0], &window(2)),
        };
        let whole = policy.encode_for_acting(&window(context));
        let off = (found - whole).abs().max().double_value(&[]);
        assert!(off < 2e-5, "state {seen}: {off}");
    }
}

#[test]
fn a_cached_context_is_a_whole_forward_s_with_alibi_and_with_windows_of_blocks() {
    tch::manual_seed(1);
    check_cache(&vintix());
    check_cache(&jat(ActionKind::Continuous));
    check_cache(&jat(ActionKind::Discrete));
}

#[test]
fn a_rolling_context_of_a_single_block_would_be_a_window_and_of_several_is_not() {
    tch::manual_seed(2);
    let _guard = tch::no_grad_guard();
    let policy = vintix();
    // What stands before the first step is not read.
    let episode = episode(&policy, 13);
    let mut cache = policy.rolling_cache(1, 4).unwrap();
    for seen in 1..=12 {
        let count = 4.min(seen);
        let found = policy.roll(&mut cache, &[0], &[seen], &episode.steps(seen as i64 - 1, 2));
        let whole = policy.encode_for_acting(&episode.steps((seen + 1 - count) as i64, count as i64));
        let off = (found - whole).abs().max().double_value(&[]);
        assert_eq!(off < 2e-5, seen <= 4, "state {seen}: {off}");
        assert_eq!(cache.held(0), 3.min(seen as i64));
    }
}

/// What `write` leaves has every tensor of the file that was read, those of other tasks and observations too.
#[track_caller]
fn check_written(name: &str, file: &str, policy: &TransformerPolicy, dropped: &[&str]) {
    let out = tempfile::tempdir().unwrap();
    model::write(policy, out.path()).unwrap();
    let (before, after) = (tensors(&folder(name).join(file)), tensors(&out.path().join("model.safetensors")));
    for (key, tensor) in &before {
        assert!(dropped.contains(&key.as_str()) || after[key] == *tensor, "{key}");
    }
    assert_eq!(after.len(), before.len() - dropped.len());
    let given = Given { task: policy.config().task.as_deref(), ..Given::default() };
    assert_eq!(model::read(out.path(), given, Device::Cpu).unwrap().config().tasks, policy.config().tasks);
}

#[test]
fn a_policy_is_written_back_whole() {
    check_written("vintix-2", "model.pth", &vintix(), &[]);
    check_written("jat-3", "model.safetensors", &jat(ActionKind::Discrete), &[]);
}
