//! AdamW (arXiv 1711.05101): decoupled weight decay, and a state that can be saved.
//!
//! tch's own optimisers cannot save their moments, so a resumed run would not be the same run.

use tch::{Kind, Tensor};

/// Constants of AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamWSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Share of the rate by which a weight shrinks each step.
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// The optimiser of the named tensors that it is given, and of no others.
#[derive(Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    steps: i32,
    parameters: Vec<Parameter>,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    value: Tensor,
    first: Tensor,
    second: Tensor,
    decays: bool,
    /// Its learning rate is so many times the step's.
    rate: f64,
}

/// A saved state that does not fit.
#[derive(Debug, thiserror::Error)]
#[error("the optimiser's state lacks `{0}` in the parameter's shape")]
pub struct BadState(pub String);

impl AdamW {
    /// Moments at zero. Vectors (biases, norms) do not decay; matrices do.
    pub fn new(parameters: Vec<(String, Tensor)>, settings: AdamWSettings) -> Self {
        let parameters = parameters
            .into_iter()
            .map(|(name, value)| Parameter {
                first: value.detach().zeros_like(),
                second: value.detach().zeros_like(),
                decays: value.dim() > 1,
                rate: 1.0,
                name,
                value,
            })
            .collect();
        Self { settings, steps: 0, parameters }
    }

    /// LoRA+ (arXiv 2402.12354): every B learns `ratio` times as fast as the rest, and so, as in PEFT's
    /// `create_loraplus_optimizer`, does every vector.
    pub fn with_lora_plus(mut self, ratio: f64) -> Self {
        for parameter in &mut self.parameters {
            if parameter.name.contains("lora_B") || parameter.value.dim() == 1 {
                parameter.rate = ratio;
            }
        }
        self
    }

    /// What it changes; shares storage with it.
    pub fn parameters(&self) -> Vec<Tensor> {
        self.parameters.iter().map(|parameter| parameter.value.shallow_clone()).collect()
    }

    /// Forgets the gradients of the last step.
    pub fn zero_grad(&mut self) {
        for parameter in &mut self.parameters {
            parameter.value.zero_grad();
        }
    }

    /// L2 norm of all gradients together.
    pub fn grad_norm(&self) -> f64 {
        let squares: Vec<Tensor> =
            self.gradients().map(|gradient| gradient.square().sum(Kind::Float)).collect();
        if squares.is_empty() {
            return 0.0;
        }
        Tensor::stack(&squares, 0).sum(Kind::Double).sqrt().double_value(&[])
    }

    /// Scales the gradients down to `limit` where their joint norm is `norm` > `limit`.
    pub fn clip(&mut self, norm: f64, limit: f64) {
        if norm > limit {
            for mut gradient in self.gradients() {
                gradient *= limit / norm;
            }
        }
    }

    /// The first parameter whose gradient is not finite, if there is one.
    pub fn first_not_finite(&self) -> Option<String> {
        let finite = |x: &Tensor| x.isfinite().all().int64_value(&[]) == 1;
        let found = self.parameters.iter().find(|parameter| {
            let gradient = parameter.value.grad();
            gradient.defined() && !finite(&gradient)
        });
        found.map(|parameter| parameter.name.clone())
    }

    fn gradients(&self) -> impl Iterator<Item = Tensor> {
        self.parameters.iter().map(|parameter| parameter.value.grad()).filter(Tensor::defined)
    }

    /// One step at learning rate `rate`, or each parameter's multiple of it.
    pub fn step(&mut self, rate: f64) {
        self.steps += 1;
        let AdamWSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        let first_bias = 1.0 - beta1.powi(self.steps);
        let second_bias = 1.0 - beta2.powi(self.steps);
        tch::no_grad(|| {
            for parameter in &mut self.parameters {
                let gradient = parameter.value.grad();
                if !gradient.defined() {
                    continue;
                }
                let rate = rate * parameter.rate;
                if parameter.decays && weight_decay > 0.0 {
                    parameter.value *= 1.0 - rate * weight_decay;
                }
                parameter.first *= beta1;
                parameter.first += &gradient * (1.0 - beta1);
                parameter.second *= beta2;
                parameter.second += gradient.square() * (1.0 - beta2);
                let root = (&parameter.second / second_bias).sqrt() + epsilon;
                parameter.value -= &parameter.first / root * (rate / first_bias);
            }
        });
    }

    /// The moments and the step count, by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![("optimiser.steps".to_owned(), Tensor::from(i64::from(self.steps)))];
        for parameter in &self.parameters {
            state.push((format!("optimiser.first.{}", parameter.name), parameter.first.shallow_clone()));
            state.push((format!("optimiser.second.{}", parameter.name), parameter.second.shallow_clone()));
        }
        state
    }

    /// Takes back what [`AdamW::state`] gave.
    pub fn load_state(&mut self, find: impl Fn(&str) -> Option<Tensor>) -> Result<(), BadState> {
        let fetch = |name: String, shape: &[i64]| {
            find(&name).filter(|tensor| tensor.size() == shape).ok_or(BadState(name))
        };
        self.steps = fetch("optimiser.steps".to_owned(), &[])?.int64_value(&[]) as i32;
        for parameter in &mut self.parameters {
            let shape = parameter.value.size();
            parameter.first.copy_(&fetch(format!("optimiser.first.{}", parameter.name), &shape)?);
            parameter.second.copy_(&fetch(format!("optimiser.second.{}", parameter.name), &shape)?);
        }
        Ok(())
    }
}

/// The learning rate of update `update` (from 0) of `total`: linear warm-up, then the chosen decay.
pub fn learning_rate(peak: f64, update: usize, warm_up: usize, total: usize, decay: Decay) -> f64 {
    if update < warm_up {
        return peak * (update + 1) as f64 / warm_up as f64;
    }
    let progress = ((update - warm_up) as f64 / total.saturating_sub(warm_up).max(1) as f64).min(1.0);
    match decay {
        Decay::Constant => peak,
        Decay::Linear => peak * (1.0 - progress),
        Decay::Cosine => peak * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
    }
}

/// What the learning rate does after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Stays.
    Constant,
    /// Falls to zero along a line.
    Linear,
    /// Falls to zero along half a cosine.
    Cosine,
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn steps_equal_torch_s_own_adamw() {
        tch::manual_seed(7);
        let start = Tensor::randn([4, 3], (Kind::Float, Device::Cpu));
        let target = Tensor::randn([4, 3], (Kind::Float, Device::Cpu));

        let store = tch::nn::VarStore::new(Device::Cpu);
        let theirs = store.root().var_copy("w", &start);
        let mut reference = tch::nn::adamw(0.9, 0.999, 0.01);
        reference.eps = 1e-8;
        let mut reference = tch::nn::OptimizerConfig::build(reference, &store, 1e-2).unwrap();

        let ours = start.copy().set_requires_grad(true);
        let settings = AdamWSettings { weight_decay: 0.01, ..AdamWSettings::default() };
        let mut optimiser = AdamW::new(vec![("w".to_owned(), ours.shallow_clone())], settings);
        for _ in 0..25 {
            reference.backward_step(&(&theirs - &target).square().sum(Kind::Float));
            optimiser.zero_grad();
            (&ours - &target).square().sum(Kind::Float).backward();
            optimiser.step(1e-2);
        }
        let difference = (&ours - &theirs).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "differs by {difference}");
    }

    #[test]
    fn a_restored_optimiser_goes_on_as_if_nothing_had_happened() {
        let run = |stop: bool| {
            let weight = Tensor::ones([2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let named = || vec![("w".to_owned(), weight.shallow_clone())];
            let mut optimiser = AdamW::new(named(), AdamWSettings::default());
            for step in 0..6 {
                if stop && step == 3 {
                    let state = optimiser.state();
                    optimiser = AdamW::new(named(), AdamWSettings::default());
                    let find = |name: &str| state.iter().find(|(key, _)| key == name).map(|(_, t)| t.copy());
                    optimiser.load_state(find).unwrap();
                }
                optimiser.zero_grad();
                weight.pow_tensor_scalar(3).sum(Kind::Float).backward();
                optimiser.step(0.1);
            }
            weight.detach().copy()
        };
        assert_eq!(run(true), run(false));
    }

    #[test]
    fn clipping_leaves_the_norm_at_the_limit() {
        let weight = Tensor::zeros([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let mut optimiser =
            AdamW::new(vec![("w".to_owned(), weight.shallow_clone())], AdamWSettings::default());
        (&weight * 10.0).sum(Kind::Float).backward();
        optimiser.clip(optimiser.grad_norm(), 0.25);
        assert!((optimiser.grad_norm() - 0.25).abs() < 1e-6);
    }

    #[test]
    fn the_rate_warms_up_and_then_falls() {
        let rate = |update| learning_rate(1.0, update, 10, 110, Decay::Cosine);
        assert_eq!((rate(0), rate(9), rate(10)), (0.1, 1.0, 1.0));
        assert!((rate(60) - 0.5).abs() < 1e-12 && rate(110) < 1e-12);
        let rate = |update| learning_rate(1.0, update, 10, 110, Decay::Linear);
        assert_eq!((rate(0), rate(10), rate(35), rate(110)), (0.1, 1.0, 0.75, 0.0));
    }
}
