//! Contexts that grow in a cache and windows that slide, against a whole forward over the same windows.

use std::collections::BTreeMap;

use eva_rl_agents::model::{
    ActionKind, Inputs, PolicyConfig, SlidingWindows, Token, TransformerPolicy, cached_context_len,
    check_config, new_config, resets_context,
};
use tch::{Device, Kind, Tensor};

const USUAL: [Token; 3] = [Token::Return, Token::State, Token::Action];
const L2M: [Token; 4] = [Token::State, Token::Return, Token::Action, Token::Reward];

/// A small policy whose heads look at some tokens much more than at others.
fn policy(tokens: &[Token], kind: ActionKind, global_positions: bool, longest: usize) -> TransformerPolicy {
    let mut config = PolicyConfig {
        state_dim: 5,
        act_dim: 3,
        hidden_size: 16,
        n_layer: 3,
        n_head: 2,
        max_ep_len: 64,
        initializer_range: 0.4,
        action_tanh: kind == ActionKind::Continuous,
        action_kind: kind,
        action_bins: (kind == ActionKind::Binned).then_some(7),
        token_order: tokens.to_vec(),
        global_positions,
        context_length: Some(longest as i64),
        ..PolicyConfig::default()
    };
    config = new_config(config);
    check_config(&config).unwrap();
    TransformerPolicy::new(config, Device::Cpu)
}

/// A whole episode, a batch of one.
fn episode(policy: &TransformerPolicy, steps: i64) -> Inputs {
    let config = policy.config();
    let normal = |width| Tensor::randn([1, steps, width], (Kind::Float, Device::Cpu));
    Inputs {
        states: normal(config.state_dim),
        words: None,
        images: None,
        previous: None,
        actions: match config.action_kind {
            ActionKind::Discrete => {
                normal(config.act_dim).argmax(-1, false).one_hot(config.act_dim).to_kind(Kind::Float)
            }
            _ => normal(config.act_dim).tanh(),
        },
        rewards: config.reads(Token::Reward).then(|| normal(1)),
        returns_to_go: normal(1),
        timesteps: Tensor::arange(steps, (Kind::Int64, Device::Cpu)).unsqueeze(0),
        mask: Tensor::ones([1, steps], (Kind::Bool, Device::Cpu)),
    }
}

/// The last `steps` steps of each episode up to its `seen`-th.
fn windows(episodes: &[(&Inputs, usize)], steps: usize) -> Inputs {
    let part = |pick: fn(&Inputs) -> &Tensor| {
        let parts: Vec<Tensor> = episodes
            .iter()
            .map(|(inputs, seen)| pick(inputs).narrow(1, (seen - steps) as i64, steps as i64))
            .collect();
        Tensor::cat(&parts, 0)
    };
    let has_rewards = episodes[0].0.rewards.is_some();
    Inputs {
        states: part(|inputs| &inputs.states),
        words: None,
        images: None,
        previous: None,
        actions: part(|inputs| &inputs.actions),
        rewards: has_rewards.then(|| part(|inputs| inputs.rewards.as_ref().expect("it was asked for"))),
        returns_to_go: part(|inputs| &inputs.returns_to_go),
        timesteps: part(|inputs| &inputs.timesteps),
        mask: part(|inputs| &inputs.mask),
    }
}

/// Episodes of these lengths end at different times in three rows; at every step the cache must say what a
/// whole forward over the same window says.
#[track_caller]
fn check(policy: &TransformerPolicy, longest: usize) {
    let _frozen = tch::no_grad_guard();
    tch::set_num_threads(1); // tests run side by side
    let lengths = [vec![7, 16, 3], vec![19, 9], vec![1, 2, 25]];
    let rows: Vec<Vec<Inputs>> =
        lengths.iter().map(|row| row.iter().map(|steps| episode(policy, *steps)).collect()).collect();
    let mut cache = policy.cache(rows.len(), longest);
    let mut standing = vec![(0, 1); rows.len()]; // each row's episode, and how many states it has shown
    let mut compared = 0;
    loop {
        // Those that grow by a step, under 0, and those that begin anew, by their steps.
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (row, (number, seen)) in standing.iter().enumerate() {
            if *number < rows[row].len() {
                let steps = cached_context_len(*seen, longest);
                groups.entry(if resets_context(*seen, longest) { steps } else { 0 }).or_default().push(row);
            }
        }
        if groups.is_empty() {
            break;
        }
        for (steps, members) in groups {
            let standing_of = |row: &usize| (&rows[*row][standing[*row].0], standing[*row].1);
            let episodes: Vec<(&Inputs, usize)> = members.iter().map(standing_of).collect();
            let found = match steps {
                0 => policy.decode_step(&mut cache, &members, &windows(&episodes, 2)),
                _ => policy.prefill(&mut cache, &members, &windows(&episodes, steps)),
            };
            for (index, (inputs, seen)) in episodes.iter().enumerate() {
                let window = windows(&[(inputs, *seen)], cached_context_len(*seen, longest));
                let expected = policy.encode_for_acting(&window).squeeze_dim(0); // [D]
                check_close(&found.get(index as i64), &expected, &format!("state {seen}"));
                compared += 1;
            }
        }
        for (row, (number, seen)) in standing.iter_mut().enumerate() {
            if *number < rows[row].len() {
                *seen += 1;
                if *seen > lengths[row][*number] as usize {
                    (*number, *seen) = (*number + 1, 1);
                }
            }
        }
    }
    assert_eq!(compared, lengths.concat().iter().sum::<i64>());
}

/// The same of windows that slide.
#[track_caller]
fn check_sliding(policy: &TransformerPolicy, longest: usize) {
    let _frozen = tch::no_grad_guard();
    tch::set_num_threads(1); // tests run side by side
    let lengths = [vec![7, 16, 3], vec![19, 9], vec![1, 2, 25]];
    let rows: Vec<Vec<Inputs>> =
        lengths.iter().map(|row| row.iter().map(|steps| episode(policy, *steps)).collect()).collect();
    let padded: Vec<Vec<Inputs>> =
        rows.iter().map(|row| row.iter().map(|one| pad(one, 1)).collect()).collect();
    let mut sliding = SlidingWindows::new(policy, rows.len(), longest).unwrap();
    let mut standing = vec![(0, 1); rows.len()]; // each row's episode, and how many states it has shown
    let mut compared = 0;
    loop {
        let live: Vec<usize> = (0..rows.len()).filter(|row| standing[*row].0 < rows[*row].len()).collect();
        if live.is_empty() {
            break;
        }
        let last_two: Vec<(&Inputs, usize)> =
            live.iter().map(|row| (&padded[*row][standing[*row].0], standing[*row].1 + 1)).collect();
        let found = policy.slide(&mut sliding, &live, &windows(&last_two, 2));
        for (index, row) in live.iter().enumerate() {
            let (number, seen) = &mut standing[*row];
            let window = windows(&[(&rows[*row][*number], *seen)], longest.min(*seen));
            let expected = policy.encode_for_acting(&window).squeeze_dim(0); // [D]
            check_close(&found.get(index as i64), &expected, &format!("state {seen} of row {row}"));
            compared += 1;
            *seen += 1;
            if *seen > lengths[*row][*number] as usize {
                (*number, *seen) = (*number + 1, 1);
            }
        }
    }
    assert_eq!(compared, lengths.concat().iter().sum::<i64>());
}

/// The same windows with `steps` steps of padding before them.
fn pad(inputs: &Inputs, steps: i64) -> Inputs {
    let pad = |x: &Tensor| {
        let mut shape = x.size();
        shape[1] = steps;
        Tensor::cat(&[&Tensor::zeros(shape.as_slice(), (x.kind(), x.device())), x], 1) // [1, steps + T, …]
    };
    Inputs {
        states: pad(&inputs.states),
        words: None,
        images: None,
        previous: None,
        actions: pad(&inputs.actions),
        rewards: inputs.rewards.as_ref().map(pad),
        returns_to_go: pad(&inputs.returns_to_go),
        timesteps: pad(&inputs.timesteps),
        mask: pad(&inputs.mask),
    }
}

/// Both encodings `[D]` are the same to 1e-5.
#[track_caller]
fn check_close(found: &Tensor, expected: &Tensor, what: &str) {
    let difference = (found - expected).abs().max().double_value(&[]);
    assert!(difference < 1e-5, "{what} differs by {difference}");
}

#[test]
fn a_cached_context_is_a_whole_window() {
    check(&policy(&USUAL, ActionKind::Continuous, false, 6), 6);
}

#[test]
fn an_odd_context_length_is_kept() {
    check(&policy(&USUAL, ActionKind::Continuous, false, 7), 7);
}

#[test]
fn a_context_of_one_step_is_begun_anew_every_time() {
    check(&policy(&USUAL, ActionKind::Continuous, false, 1), 1);
    check(&policy(&L2M, ActionKind::Binned, true, 1), 1);
}

#[test]
fn l2m_s_order_extends_a_context_by_action_reward_state_and_return() {
    check(&policy(&L2M, ActionKind::Continuous, false, 6), 6);
}

#[test]
fn discrete_and_binned_actions_are_remembered() {
    check(&policy(&USUAL, ActionKind::Discrete, false, 5), 5);
    check(&policy(&L2M, ActionKind::Binned, false, 4), 4);
}

#[test]
fn a_window_that_slides_is_a_whole_window() {
    for longest in [1, 2, 6, 7] {
        check_sliding(&policy(&USUAL, ActionKind::Continuous, false, longest), longest);
        check_sliding(&policy(&L2M, ActionKind::Binned, false, longest), longest);
    }
    check_sliding(&policy(&USUAL, ActionKind::Discrete, false, 5), 5);
    let shallow =
        PolicyConfig { n_layer: 1, ..policy(&USUAL, ActionKind::Continuous, false, 6).config().clone() };
    check_sliding(&TransformerPolicy::new(shallow, Device::Cpu), 6);
}

#[test]
fn a_window_that_slides_knows_no_places() {
    assert!(SlidingWindows::new(&policy(&L2M, ActionKind::Continuous, true, 6), 3, 6).is_none());
}

#[test]
fn positions_count_from_the_start_of_a_context() {
    check(&policy(&L2M, ActionKind::Binned, true, 6), 6);
    check(&policy(&USUAL, ActionKind::Continuous, true, 5), 5);
}

#[test]
fn a_padded_window_is_the_same_window() {
    let _frozen = tch::no_grad_guard();
    tch::set_num_threads(1); // tests run side by side
    let policy = policy(&L2M, ActionKind::Continuous, true, 6);
    let inputs = episode(&policy, 4);
    let (found, expected) = (policy.encode_for_acting(&pad(&inputs, 2)), policy.encode_for_acting(&inputs));
    check_close(&found, &expected, "the padded window");
}
