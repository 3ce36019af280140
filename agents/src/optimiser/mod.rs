//! AdamW (arXiv 1711.05101) and LAMB (arXiv 1904.00962), with a state that can be saved.
//!
//! tch's own optimisers cannot save their moments, so a resumed run would not be the same run.

mod schedule;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

pub use schedule::Schedule;

/// How a step follows from a parameter x and its moments. With r = m̂/(√v̂ + ε), λ the weight decay and η the
/// learning rate:
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// AdamW (arXiv 1711.05101): x ← x − η·(r + λx), its decay first.
    #[default]
    AdamW,
    /// LAMB (arXiv 1904.00962): x ← x − η·‖x‖/‖r + λx‖·(r + λx), the paper's Algorithm 2 with φ(z) = z; the ratio is 1 where either
    /// norm is zero.
    ///
    /// Vectors and an adapter's B step as AdamW's: they are initialised at zero, where steps
    /// as long as a fraction of their own norm would leave them.
    Lamb,
}

/// Constants of the optimiser.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How a step follows from the moments.
    pub algorithm: Algorithm,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Share of the rate by which a weight shrinks each step.
    pub weight_decay: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { algorithm: Algorithm::AdamW, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// The optimiser of the named tensors that it is given, and of no others.
#[derive(Debug)]
pub struct Optimiser {
    settings: Settings,
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
    /// Whether LAMB's ratio counts.
    scales: bool,
    /// Its learning rate is so many times the step's.
    rate: f64,
}

/// Whether a name is of an adapter's B.
fn is_up(name: &str) -> bool {
    name.contains("lora_B")
}

/// A saved state that does not fit.
#[derive(Debug, thiserror::Error)]
#[error("the optimiser's state lacks `{0}` in the parameter's shape")]
pub struct BadState(pub String);

impl Optimiser {
    /// Moments at zero. Vectors (biases, norms) do not decay; matrices do.
    pub fn new(parameters: Vec<(String, Tensor)>, settings: Settings) -> Self {
        let parameters = parameters
            .into_iter()
            .map(|(name, value)| Parameter {
                first: value.detach().zeros_like(),
                second: value.detach().zeros_like(),
                decays: value.dim() > 1,
                scales: value.dim() > 1 && !is_up(&name),
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
            if is_up(&parameter.name) || parameter.value.dim() == 1 {
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

    /// What it changes, by name; shares storage with it.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let named = |parameter: &Parameter| (parameter.name.clone(), parameter.value.shallow_clone());
        self.parameters.iter().map(named).collect()
    }

    /// The gradients that there are, in the order of the parameters; they share storage with these.
    pub fn gradients(&self) -> impl Iterator<Item = Tensor> {
        self.parameters.iter().map(|parameter| parameter.value.grad()).filter(Tensor::defined)
    }

    /// One step at learning rate `rate`, or each parameter's multiple of it.
    pub fn step(&mut self, rate: f64) {
        self.steps += 1;
        let Settings { algorithm, beta1, beta2, epsilon, weight_decay } = self.settings;
        let first_bias = 1.0 - beta1.powi(self.steps);
        let second_bias = 1.0 - beta2.powi(self.steps);
        tch::no_grad(|| {
            for parameter in &mut self.parameters {
                let gradient = parameter.value.grad();
                if !gradient.defined() {
                    continue;
                }
                let rate = rate * parameter.rate;
                let decay = if parameter.decays { weight_decay } else { 0.0 };
                parameter.first *= beta1;
                parameter.first += &gradient * (1.0 - beta1);
                parameter.second *= beta2;
                parameter.second += gradient.square() * (1.0 - beta2);
                let root = (&parameter.second / second_bias).sqrt() + epsilon;
                if algorithm == Algorithm::Lamb && parameter.scales {
                    let direction = &parameter.first / root / first_bias + &parameter.value * decay;
                    let norm = |x: &Tensor| x.norm().double_value(&[]); // `[…]`
                    let (size, length) = (norm(&parameter.value), norm(&direction));
                    let ratio = if size > 0.0 && length > 0.0 { size / length } else { 1.0 };
                    parameter.value -= direction * (rate * ratio);
                    continue;
                }
                if decay > 0.0 {
                    parameter.value *= 1.0 - rate * decay;
                }
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

    /// Takes back what [`Optimiser::state`] gave.
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
        let settings = Settings { weight_decay: 0.01, ..Settings::default() };
        let mut optimiser = Optimiser::new(vec![("w".to_owned(), ours.shallow_clone())], settings);
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
        let run = |algorithm: Algorithm, stop: bool| {
            let settings = Settings { algorithm, ..Settings::default() };
            let weight = Tensor::ones([2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let named = || vec![("w".to_owned(), weight.shallow_clone())];
            let mut optimiser = Optimiser::new(named(), settings);
            for step in 0..6 {
                if stop && step == 3 {
                    let state = optimiser.state();
                    optimiser = Optimiser::new(named(), settings);
                    let find = |name: &str| state.iter().find(|(key, _)| key == name).map(|(_, t)| t.copy());
                    optimiser.load_state(find).unwrap();
                }
                optimiser.zero_grad();
                weight.pow_tensor_scalar(3).sum(Kind::Float).backward();
                optimiser.step(0.1);
            }
            weight.detach().copy()
        };
        for algorithm in [Algorithm::AdamW, Algorithm::Lamb] {
            assert_eq!(run(algorithm, true), run(algorithm, false));
        }
    }

    #[test]
    fn clipping_leaves_the_norm_at_the_limit() {
        let weight = Tensor::zeros([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let mut optimiser =
            Optimiser::new(vec![("w".to_owned(), weight.shallow_clone())], Settings::default());
        (&weight * 10.0).sum(Kind::Float).backward();
        optimiser.clip(optimiser.grad_norm(), 0.25);
        assert!((optimiser.grad_norm() - 0.25).abs() < 1e-6);
    }

    /// LAMB in f64, a number at a time, from the paper's Algorithm 2, where `scales`; without its ratio where not.
    fn lamb(mut x: Vec<f64>, gradients: &[Vec<f64>], rate: f64, lambda: f64, scales: bool) -> Vec<f64> {
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (mut m, mut v) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        for (step, g) in (1..).zip(gradients) {
            let mut r = vec![0.0; x.len()];
            for i in 0..x.len() {
                m[i] = 0.9 * m[i] + 0.1 * g[i];
                v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
                let (m_hat, v_hat) = (m[i] / (1.0 - 0.9f64.powi(step)), v[i] / (1.0 - 0.999f64.powi(step)));
                r[i] = m_hat / (v_hat.sqrt() + 1e-8) + lambda * x[i];
            }
            let ratio = if scales && norm(&x) > 0.0 { norm(&x) / norm(&r) } else { 1.0 };
            for i in 0..x.len() {
                x[i] -= rate * ratio * r[i];
            }
        }
        x
    }

    /// Five steps of LAMB at rate 0.1 and weight decay 0.05 on a tensor of this name and shape, which begins as
    /// normal numbers times `scale`.
    #[track_caller]
    fn check_lamb(name: &str, shape: &[i64], scale: f64, expect: impl Fn(Vec<f64>, &[Vec<f64>]) -> Vec<f64>) {
        tch::manual_seed(11);
        let draw = || Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let numbers =
            |x: &Tensor| Vec::<f64>::try_from(x.detach().flatten(0, -1).to_kind(Kind::Double)).unwrap();
        let start = draw() * scale;
        let given: Vec<Tensor> = (0..5).map(|_| draw()).collect();
        let gradients: Vec<Vec<f64>> = given.iter().map(numbers).collect();
        let expected = expect(numbers(&start), &gradients);

        let value = start.copy().set_requires_grad(true);
        let settings = Settings { algorithm: Algorithm::Lamb, weight_decay: 0.05, ..Settings::default() };
        let named = vec![(name.to_owned(), value.shallow_clone())];
        let mut optimiser = Optimiser::new(named, settings).with_lora_plus(4.0);
        for gradient in &given {
            optimiser.zero_grad();
            (&value * gradient).sum(Kind::Float).backward();
            optimiser.step(0.1);
        }
        for (found, expected) in numbers(&value).iter().zip(&expected) {
            assert!((found - expected).abs() < 2e-5, "{found}, expected {expected}");
        }
    }

    #[test]
    fn lamb_steps_as_its_equations_say() {
        for scale in [1.0, 20.0, 0.0] {
            check_lamb("x.lora_A", &[4, 3], scale, |x, gradients| lamb(x, gradients, 0.1, 0.05, true));
        }
    }

    #[test]
    fn lamb_leaves_what_begins_at_zero_to_adamw_at_lora_plus_s_rate() {
        check_lamb("x.lora_B", &[4, 3], 0.0, |x, gradients| lamb(x, gradients, 0.4, 0.05, false));
        check_lamb("x.bias", &[6], 1.0, |x, gradients| lamb(x, gradients, 0.4, 0.0, false));
    }
}
