//! Online DT's loss and draws against formulas and finite differences.

use std::f64::consts::TAU;

use tch::Device;

use super::*;

fn policy(change: impl FnOnce(&mut PolicyConfig)) -> TransformerPolicy {
    let mut config = PolicyConfig {
        state_dim: 2,
        act_dim: 2,
        hidden_size: 8,
        max_ep_len: 8,
        n_positions: 8,
        n_layer: 1,
        initializer_range: 0.5,
        ..Default::default()
    };
    change(&mut config);
    tch::manual_seed(5);
    TransformerPolicy::new(config, Device::Cpu)
}

/// One window of two steps with these actions `[2, A]`.
fn inputs(actions: &[f32]) -> Inputs {
    let float = (Kind::Float, Device::Cpu);
    Inputs {
        states: Tensor::ones([1, 2, 2], float),
        words: None,
        images: None,
        previous: None,
        actions: Tensor::from_slice(actions).view([1, 2, -1]),
        rewards: None,
        returns_to_go: Tensor::ones([1, 2, 1], float),
        timesteps: Tensor::zeros([1, 2], (Kind::Int64, Device::Cpu)),
        mask: Tensor::ones([1, 2], (Kind::Bool, Device::Cpu)),
    }
}

/// The policy's head outputs for these inputs, in f64: `[2, …]`.
fn outputs(policy: &TransformerPolicy, inputs: &Inputs) -> Vec<Vec<f64>> {
    let mut context = ForwardContext::bare();
    let head = policy.encode_for_actions(&mut context, inputs);
    let head = policy.action_head(&mut context, &head).squeeze_dim(0).to_kind(Kind::Double);
    Vec::<Vec<f64>>::try_from(head).unwrap()
}

fn log_likelihood(policy: &TransformerPolicy, head: &StochasticHead, inputs: &Inputs) -> f64 {
    let mut context = ForwardContext::bare();
    head.loss(policy, &mut context, inputs).log_likelihood
}

/// ln Φ(z), by the continued fraction of Mills' ratio where z < −1, and by the series of erf elsewhere.
fn log_ndtr(z: f64) -> f64 {
    let log_phi = -0.5 * z * z - 0.5 * TAU.ln();
    if z < -1.0 {
        let ratio = (1..500).rev().fold(-z, |below, k| -z + f64::from(k) / below);
        return log_phi - ratio.ln();
    }
    let mut term = z;
    let mut sum = z;
    for k in 1..300 {
        term *= z * z / f64::from(2 * k + 1);
        sum += term;
    }
    (0.5 + log_phi.exp() * sum).ln()
}

#[test]
fn recorded_actions_have_their_density_or_their_bound_s_probability() {
    let actions = [1.0, -1.0, 0.25, -0.999];
    for tanh in [true, false] {
        let policy = policy(|config| config.action_tanh = tanh);
        let head = StochasticHead::new(&policy, 0.3, 0.1);
        let inputs = inputs(&actions);
        let mut expected = 0.0;
        for (action, output) in actions.iter().zip(outputs(&policy, &inputs).concat()) {
            let mean = if tanh { output.tanh() } else { output };
            let (action, std) = (f64::from(*action), 0.3f64);
            let z = (action - mean) / std;
            expected += match action.abs() == 1.0 {
                true => log_ndtr((action * mean - 1.0) / std),
                false => -0.5 * z * z - std.ln() - 0.5 * TAU.ln(),
            };
        }
        let expected = expected / 2.0; // the mean over two steps
        let found = log_likelihood(&policy, &head, &inputs);
        assert!((found - expected).abs() < 1e-3 * expected.abs(), "{found}, expected {expected}");
    }
}

#[test]
fn saturated_batches_have_a_bounded_loss_and_gradient() {
    for tanh in [true, false] {
        let policy = policy(|config| config.action_tanh = tanh);
        let head = StochasticHead::new(&policy, 0.3, 0.1);
        let inputs = inputs(&[1.0, -1.0, -1.0, 1.0]);
        let mut context = ForwardContext::bare();
        let loss = head.loss(&policy, &mut context, &inputs);
        assert_eq!(loss.spread.unwrap().saturated, 1.0);
        assert!((loss.spread.unwrap().std - 0.3).abs() < 1e-6);
        // −log Φ(−z) < (z + 1)²/2 for z > 0, whose derivative in log σ is less than (z + 1)².
        let furthest = outputs(&policy, &inputs)
            .concat()
            .into_iter()
            .fold(0.0, |most: f64, output| most.max(if tanh { output.tanh().abs() } else { output.abs() }));
        let limit = ((1.0 + furthest) / 0.3 + 1.0).powi(2);
        let lost = -loss.log_likelihood; // of two numbers per step
        assert!(0.0 < lost && lost < limit, "{lost}, limit {limit}");
        loss.policy.backward();
        let (low, high) = LOG_STD_RANGE;
        let steepest = 0.5 * (high - low) * limit; // tanh's own slope is at most 1
        let found = head.log_std_head.bias.grad().abs().max().double_value(&[]);
        assert!(found < steepest, "{found}, limit {steepest}");
    }
}

/// Ratios of a policy gradient compare likelihoods of what was drawn, so under those by which it was drawn
/// their mean is 1: with saturated draws too.
#[test]
fn the_ratio_to_another_policy_has_mean_one_over_drawn_actions() {
    tch::manual_seed(9);
    let policy = policy(|config| config.action_tanh = false);
    let options = (Kind::Float, Device::Cpu);
    let (steps, encoded) = (200_000, Tensor::zeros([1, 8], (Kind::Float, Device::Cpu)));
    let (here, there) = (StochasticHead::new(&policy, 0.4, 0.1), StochasticHead::new(&policy, 0.3, 0.1));
    let [at_here, at_there] =
        [[0.9f32, -0.6], [0.8, -0.7]].map(|mean| Tensor::from_slice(&mean).expand([steps, 2], false));
    let drawn = here.sample(&at_here, &encoded, &Tensor::randn([steps, 2], options)); // [N, A]
    let saturated = clipped_normal::at_bound(&drawn).to_kind(Kind::Float).mean(Kind::Float);
    assert!(saturated.double_value(&[]) > 0.25);
    let log_prob = |head: &StochasticHead, mean: &Tensor| {
        let log_std = head.log_std(&encoded).expand_as(mean);
        clipped_normal::log_prob(&drawn, mean, &log_std).sum_dim_intlist(-1, false, Kind::Float) // [N]
    };
    let ratio = (log_prob(&there, &at_there) - log_prob(&here, &at_here)).exp();
    let mean = ratio.mean(Kind::Float).double_value(&[]);
    assert!((mean - 1.0).abs() < 0.01, "{mean}");
}

#[test]
fn the_spread_starts_at_the_residuals_of_the_policy() {
    tch::manual_seed(4);
    for tanh in [true, false] {
        let policy = policy(|config| config.action_tanh = tanh);
        let head = StochasticHead::new(&policy, 0.3, 0.1);
        let batches: Vec<Inputs> = (0..2000)
            .map(|_| {
                let mut inputs = inputs(&[0.0; 4]);
                inputs.states = Tensor::randn([1, 2, 2], (Kind::Float, Device::Cpu));
                inputs.mask = Tensor::from_slice(&[false, true]).view([1, 2]);
                let means = Tensor::from_slice2(&outputs(&policy, &inputs)).to_kind(Kind::Float); // [2, A], one row of padding
                let means = if tanh { means.tanh() } else { means };
                let noise = means.randn_like() * Tensor::from_slice(&[0.1f32, 0.5]);
                // What is recorded of the last step does not change what is done in it.
                let recorded = (means + noise).clamp(-1.0, 1.0).unsqueeze(0); // [1, 2, A]
                Inputs { actions: recorded, ..inputs }
            })
            .collect();
        let found = head.residual_std(&policy, &AdapterSet::default(), &batches).unwrap();
        for (index, known) in [0.1, 0.5].into_iter().enumerate() {
            let found = found.double_value(&[index as i64]);
            assert!((found / known - 1.0).abs() < 0.1, "{found}, known {known}");
        }
        head.initialise_std(&found);
        let std = head.log_std(&Tensor::randn([5, 8], (Kind::Float, Device::Cpu))).exp();
        assert!((std - found).abs().max().double_value(&[]) < 1e-5);
    }
}

#[test]
fn binned_and_discrete_actions_have_their_softmax_s_likelihood() {
    let log_prob = |logits: &[f64], taken: usize| {
        logits[taken] - logits.iter().map(|logit| logit.exp()).sum::<f64>().ln()
    };
    let binned = policy(|config| {
        (config.action_kind, config.action_bins, config.action_tanh) = (ActionKind::Binned, Some(3), false);
    });
    let given = inputs(&[-1.0, 0.1, 0.9, -0.2]); // bins 0, 1 and 2, 1
    let logits = outputs(&binned, &given);
    let expected: f64 = [(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 1)]
        .map(|(step, dimension, bin)| log_prob(&logits[step][3 * dimension..][..3], bin))
        .iter()
        .sum();
    let head = StochasticHead::new(&binned, 0.3, 0.1);
    assert!((log_likelihood(&binned, &head, &given) - expected / 2.0).abs() < 1e-5);

    let discrete = policy(|config| {
        (config.action_kind, config.action_tanh) = (ActionKind::Discrete, false);
    });
    let given = inputs(&[0.0, 1.0, 1.0, 0.0]); // one-hot
    let logits = outputs(&discrete, &given);
    let expected = log_prob(&logits[0], 1) + log_prob(&logits[1], 0);
    let head = StochasticHead::new(&discrete, 0.3, 0.1);
    assert!((log_likelihood(&discrete, &head, &given) - expected / 2.0).abs() < 1e-5);
}

#[test]
fn without_noise_a_head_draws_what_the_deterministic_policy_does() {
    for tanh in [true, false] {
        let policy = policy(|config| config.action_tanh = tanh);
        let head = StochasticHead::new(&policy, 0.3, 0.1);
        let inputs = inputs(&[0.0; 4]);
        let encoded = policy.encode_for_acting(&inputs); // [1, D]
        let mut context = ForwardContext::bare();
        let outputs = policy.action_head(&mut context, &encoded); // [1, A]
        let drawn = head.sample(&outputs, &encoded, &outputs.zeros_like());
        assert_eq!(drawn, crate::model::heads::mode(policy.config(), &outputs));
    }
}

#[test]
fn the_spread_starts_where_it_was_asked_to() {
    let head = StochasticHead::new(&policy(|_| {}), 0.3, 0.1);
    let std = head.log_std(&Tensor::randn([5, 8], (Kind::Float, Device::Cpu))).exp();
    assert!((std - 0.3).abs().max().double_value(&[]) < 1e-6);
    assert!((head.temperature() - 0.1).abs() < 1e-7);
}
