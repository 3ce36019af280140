//! TD3's twin critics (Fujimoto, van Hoof and Meger 2018, arXiv 1802.09477), and their targets.
//!
//! Two networks learn Q(s, a) towards r + γ·min(Q′₁, Q′₂)(s′, a′), where Q′ are slow copies. Where actions
//! are discrete a network gives the values of all actions at once, and a policy's value is the mean over
//! its probabilities.

use tch::{Device, Kind, Reduction, Tensor};

use crate::model::layers::{LayerNorm, Linear};
use crate::optimiser::{BadState, Optimiser, Settings};
use crate::ranks::{Ranks, sum_over};

/// Sizes of the critics.
#[derive(Clone, Copy, Debug)]
pub struct CriticShape {
    /// S.
    pub state_dim: i64,
    /// A: numbers of an action, or actions to choose from.
    pub act_dim: i64,
    /// Whether an action is one of A.
    pub discrete: bool,
    /// Width of both hidden layers.
    pub width: i64,
}

/// Two critics with their slow copies and their optimiser.
#[derive(Debug)]
pub struct TwinCritics {
    critics: [Critic; 2],
    targets: [Critic; 2],
    optimiser: Optimiser,
}

impl TwinCritics {
    /// With weights from torch's generator.
    pub fn new(shape: CriticShape, device: Device) -> Self {
        let critics = [0, 1].map(|_| Critic::new(shape, device));
        let targets = [0, 1].map(|index| critics[index].frozen_copy());
        let named = critics.iter().enumerate().flat_map(|(index, critic)| critic.named(index));
        let parameters = named.map(|(name, tensor)| (name, tensor.set_requires_grad(true))).collect();
        Self { optimiser: Optimiser::new(parameters, Settings::default()), critics, targets }
    }

    /// What a policy's actions are worth to the first critic: `states` `[N, S]`, `actions` `[N, A]`, or
    /// probabilities `[N, A]` where they are discrete → `[N]`. Its gradient reaches the actions alone.
    pub fn q_value(&self, states: &Tensor, actions: &Tensor) -> Tensor {
        self.critics[0].detached().q_value(states, actions)
    }

    /// The lesser of the slow copies' values: `states` `[N, S]`, `actions` `[N, A]` → `[N]`.
    pub fn target_q_value(&self, states: &Tensor, actions: &Tensor) -> Tensor {
        let [first, second] = &self.targets;
        tch::no_grad(|| first.q_value(states, actions).minimum(&second.q_value(states, actions)))
    }

    /// The mean of both critics' squared errors from `targets` `[N]` at `states` `[N, S]`, `actions` `[N, A]`, over those
    /// of all `ranks`, whose gradient [`TwinCritics::step`] goes down; what is not finite is named instead.
    pub fn differentiate(
        &mut self,
        states: &Tensor,
        actions: &Tensor,
        targets: &Tensor,
        ranks: &dyn Ranks,
    ) -> Result<f64, String> {
        let count = ranks.count(targets.numel()) as f64;
        let error =
            |critic: &Critic| critic.q_value(states, actions).mse_loss(targets, Reduction::Sum) / count;
        let loss = (error(&self.critics[0]) + error(&self.critics[1])) / 2.0; // []
        let mut found = [loss.double_value(&[])];
        self.optimiser.zero_grad();
        loss.backward();
        sum_over(ranks, &self.optimiser.gradients().collect::<Vec<_>>(), &mut found);
        let [found] = found;
        if !found.is_finite() {
            return Err(format!("the critics' loss is {found}"));
        }
        match self.optimiser.first_not_finite() {
            Some(parameter) => Err(format!("the gradient of `{parameter}` is not finite")),
            None => Ok(found),
        }
    }

    /// One step of both critics by the gradients of the last [`TwinCritics::differentiate`].
    pub fn step(&mut self, rate: f64) {
        self.optimiser.step(rate);
    }

    /// The slow copies go a `share` of the way to the critics.
    pub fn polyak_update(&mut self, tau: f64) {
        for (target, critic) in self.targets.iter_mut().zip(&self.critics) {
            for ((_, target), (_, critic)) in target.named(0).into_iter().zip(critic.named(0)) {
                polyak_update(&target, &critic, tau);
            }
        }
    }

    /// Everything that a checkpoint must hold.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let moments = self.optimiser.state().into_iter().map(|(name, x)| (format!("critic.{name}"), x));
        self.tensors().into_iter().chain(moments).collect()
    }

    /// Takes back what [`TwinCritics::state`] gave.
    pub fn load_state(&mut self, find: impl Fn(&str) -> Option<Tensor>) -> Result<(), BadState> {
        for (name, tensor) in self.tensors() {
            let found = find(&name).filter(|found| found.size() == tensor.size());
            let found = found.ok_or_else(|| BadState(name.clone()))?;
            tch::no_grad(|| tensor.shallow_clone().copy_(&found));
        }
        self.optimiser.load_state(|name| find(&format!("critic.{name}")))
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let critics = self.critics.iter().enumerate().flat_map(|(index, critic)| critic.named(index));
        let targets = self.targets.iter().enumerate().flat_map(|(index, critic)| critic.named(index + 2));
        critics.chain(targets).collect()
    }
}

/// `slow` goes the fraction `tau` of the way to `fast`, both of one shape, as `[…]`.
pub fn polyak_update(slow: &Tensor, fast: &Tensor, tau: f64) {
    tch::no_grad(|| {
        let _ = slow.shallow_clone().lerp_(&fast.detach(), tau);
    });
}

/// Two hidden layers, each normalised, and one value an input or an action.
#[derive(Debug)]
struct Critic {
    discrete: bool,
    layers: [Linear; 3],
    norms: [LayerNorm; 2],
}

impl Critic {
    fn new(shape: CriticShape, device: Device) -> Self {
        let CriticShape { state_dim, act_dim, discrete, width } = shape;
        let options = (Kind::Float, device);
        let layer = |input: i64, output: i64| {
            let bound = (input as f64).sqrt().recip(); // as torch's own linear maps begin
            let draw = |shape: &[i64]| Tensor::empty(shape, options).uniform_(-bound, bound);
            Linear { weight: draw(&[output, input]), bias: draw(&[output]), fan_in_fan_out: false }
        };
        let norm = || LayerNorm {
            weight: Tensor::ones([width], options),
            bias: Tensor::zeros([width], options),
            epsilon: 1e-5,
        };
        let (input, output) = if discrete { (state_dim, act_dim) } else { (state_dim + act_dim, 1) };
        let layers = [layer(input, width), layer(width, width), layer(width, output)];
        Self { discrete, layers, norms: [norm(), norm()] }
    }

    /// `states` `[N, S]`, `actions` `[N, A]` → `[N]`.
    fn q_value(&self, states: &Tensor, actions: &Tensor) -> Tensor {
        let mut x = match self.discrete {
            true => states.shallow_clone(),               // [N, S]
            false => Tensor::cat(&[states, actions], -1), // [N, S + A]
        };
        for (layer, norm) in self.layers.iter().zip(&self.norms) {
            x = norm.forward(&x.linear(&layer.weight, Some(&layer.bias))).relu(); // [N, width]
        }
        let values = x.linear(&self.layers[2].weight, Some(&self.layers[2].bias)); // [N, A] or [N, 1]
        match self.discrete {
            true => (values * actions).sum_dim_intlist(-1, false, Kind::Float),
            false => values.squeeze_dim(-1),
        }
    }

    fn named(&self, index: usize) -> Vec<(String, Tensor)> {
        let layers = self.layers.iter().map(|layer| (&layer.weight, &layer.bias));
        let norms = self.norms.iter().map(|norm| (&norm.weight, &norm.bias));
        let pairs = layers.chain(norms).enumerate();
        let name = |part: usize, what: &str| format!("critic.{index}.{part}.{what}");
        pairs
            .flat_map(|(part, (weight, bias))| {
                [(name(part, "weight"), weight.shallow_clone()), (name(part, "bias"), bias.shallow_clone())]
            })
            .collect()
    }

    /// The same numbers, which no gradient reaches.
    fn detached(&self) -> Self {
        self.map(Tensor::detach)
    }

    fn frozen_copy(&self) -> Self {
        self.map(|x| x.detach().copy())
    }

    /// With each tensor `[…]` changed.
    fn map(&self, change: impl Fn(&Tensor) -> Tensor) -> Self {
        Self {
            discrete: self.discrete,
            layers: [0, 1, 2].map(|index| {
                let Linear { weight, bias, fan_in_fan_out } = &self.layers[index];
                Linear { weight: change(weight), bias: change(bias), fan_in_fan_out: *fan_in_fan_out }
            }),
            norms: [0, 1].map(|index| {
                let LayerNorm { weight, bias, epsilon } = &self.norms[index];
                LayerNorm { weight: change(weight), bias: change(bias), epsilon: *epsilon }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::OneRank;

    fn critics(discrete: bool) -> TwinCritics {
        tch::manual_seed(3);
        TwinCritics::new(CriticShape { state_dim: 2, act_dim: 2, discrete, width: 32 }, Device::Cpu)
    }

    fn normal(shape: [i64; 2]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn values_are_learnt_and_slow_copies_come_after() {
        let mut critics = critics(false);
        let (states, actions) = (normal([256, 2]), normal([256, 2]));
        let wanted = (&states * &actions).sum_dim_intlist(-1, false, Kind::Float); // [N]
        let error = |found: Tensor| (found - &wanted).square().mean(Kind::Float).double_value(&[]);
        let begun = error(critics.target_q_value(&states, &actions));
        for _ in 0..400 {
            critics.differentiate(&states, &actions, &wanted, &OneRank).unwrap();
            critics.step(3e-3);
        }
        assert!(error(critics.q_value(&states, &actions)) < 0.05);
        assert_eq!(error(critics.target_q_value(&states, &actions)), begun);
        critics.polyak_update(1.0);
        assert!(error(critics.target_q_value(&states, &actions)) < 0.1);
    }

    #[test]
    fn what_is_not_finite_is_named_and_nothing_has_moved() {
        let mut critics = critics(false);
        let (states, actions) = (normal([8, 2]), normal([8, 2]));
        let numbers = |critics: &TwinCritics| -> Vec<Tensor> {
            critics.state().iter().map(|(_, tensor)| tensor.detach().copy()).collect()
        };
        let begun = numbers(&critics);
        let targets = Tensor::full([8], f64::NAN, (Kind::Float, Device::Cpu)); // [N]
        let said = critics.differentiate(&states, &actions, &targets, &OneRank).unwrap_err();
        assert_eq!(said, "the critics' loss is NaN");
        assert_eq!(numbers(&critics), begun);
        // An error whose square is just finite, and a layer whose narrow outputs the norm widens 300 times.
        let [_, narrow, last] = &critics.critics[0].layers;
        tch::no_grad(|| {
            let _ = [&narrow.weight, &narrow.bias].map(|x| x.shallow_clone().g_mul_scalar_(1e-4));
            let _ = last.weight.shallow_clone().fill_(1e18);
        });
        let begun = numbers(&critics);
        let targets = Tensor::full([1], 1e19, (Kind::Float, Device::Cpu)); // [N]
        let said = critics.differentiate(&normal([1, 2]), &normal([1, 2]), &targets, &OneRank).unwrap_err();
        assert!(said.starts_with("the gradient of `critic.0."), "{said}");
        assert_eq!(numbers(&critics), begun);
    }

    #[test]
    fn a_value_s_gradient_reaches_the_actions_and_no_critic() {
        let critics = critics(false);
        let actions = normal([8, 2]).set_requires_grad(true);
        critics.q_value(&normal([8, 2]), &actions).sum(Kind::Float).backward();
        assert!(actions.grad().norm().double_value(&[]) > 0.0);
        assert!(critics.critics[0].named(0).iter().all(|(_, weight)| !weight.grad().defined()));
    }

    #[test]
    fn a_discrete_policy_is_worth_the_mean_of_its_actions() {
        let critics = critics(true);
        let states = normal([1, 2]);
        let worth =
            |p: [f32; 2]| critics.q_value(&states, &Tensor::from_slice(&p).unsqueeze(0)).double_value(&[0]);
        assert!((worth([0.25, 0.75]) - (0.25 * worth([1.0, 0.0]) + 0.75 * worth([0.0, 1.0]))).abs() < 1e-6);
    }

    #[test]
    fn the_target_is_the_lesser_of_the_two() {
        let critics = critics(false);
        let (states, actions) = (normal([64, 2]), normal([64, 2]));
        let [first, second] = critics.targets.each_ref().map(|target| target.q_value(&states, &actions));
        assert_ne!(first, second);
        assert_eq!(critics.target_q_value(&states, &actions), first.minimum(&second));
    }

    #[test]
    fn restored_critics_go_on_as_if_nothing_had_happened() {
        let (states, actions) = (normal([16, 2]), normal([16, 2]));
        let targets = states.sum_dim_intlist(-1, false, Kind::Float); // [N]
        // Torch's generator is every test's, so both runs begin with the same saved state.
        let begun: Vec<(String, Tensor)> =
            critics(false).state().into_iter().map(|(name, x)| (name, x.copy())).collect();
        let restored = |state: &[(String, Tensor)]| {
            let find = |name: &str| state.iter().find(|(key, _)| key == name).map(|(_, x)| x.copy());
            let mut subject = critics(false);
            subject.load_state(find).unwrap();
            subject
        };
        let run = |stop: bool| {
            let mut subject = restored(&begun);
            for step in 0..6 {
                if stop && step == 3 {
                    subject = restored(&subject.state());
                }
                subject.differentiate(&states, &actions, &targets, &OneRank).unwrap();
                subject.step(1e-2);
                subject.polyak_update(0.1);
            }
            subject.target_q_value(&states, &actions)
        };
        assert_eq!(run(true), run(false));
    }
}
