//! Adapters computed with their modules in one update: h = r ⊙ (W + s·B A) x + b is one product and not three,
//! where r = m / ‖W + s·B A‖ is DoRA's, and 1 without it.
//!
//! Autograd would then compute the gradient of the whole weight, and is not asked for it. With g the loss's
//! gradient in h, the gradients of A and B are those of `s·Σ (g (r ⊙ B)) ⊙ (x Aᵀ)`, whose products are as low in
//! rank as A. That of m is `Σ g ⊙ (h − b) / m` over the rows, because the norm counts as a constant.

use tch::{Kind, Tensor};

use crate::adapter::site::ModuleName;
use crate::adapter::{AdapterSet, Lora};
use crate::tensor::{Rows, low_rank_product};

/// The output of a module and its adapter, computed as one product: h = r ⊙ (W + s·B A) x + b.
#[derive(Debug)]
pub struct FusedOutput<'a> {
    /// `[N, in]`, in oneDNN's layout.
    pub x: &'a Rows,
    /// `[N, out]`, in oneDNN's layout.
    pub h: &'a Rows,
    /// DoRA's r, where the adapter has magnitudes: `[out]`.
    pub ratio: Option<Tensor>,
    /// b: `[out]`.
    pub bias: &'a Tensor,
}

/// What the forward passes of an update keep of their fused modules. Their loss is differentiated by
/// [`FusedLora::backward`]; its own `backward` would leave the adapters out.
#[derive(Debug, Default)]
pub struct FusedLora {
    kept: Vec<SavedActivation>,
}

/// One module of one pass.
#[derive(Debug)]
struct SavedActivation {
    module: ModuleName,
    x: Rows,
    /// The module's output for `x`, `[N, out]` in oneDNN's layout.
    h: Tensor,
    /// `[out]` each, of an adapter with magnitudes.
    ratio_and_bias: Option<(Tensor, Tensor)>,
}

impl FusedLora {
    /// Keeps one module's output.
    pub(super) fn keep(&mut self, module: &ModuleName, output: &FusedOutput) {
        let h = output.h.packed().expect("packed rows give packed rows"); // [N, out]
        // Where no adapter came before, autograd does not look at it yet.
        let h = if h.requires_grad() { h.shallow_clone() } else { h.set_requires_grad(true) };
        let ratio_and_bias =
            output.ratio.as_ref().map(|ratio| (ratio.shallow_clone(), output.bias.shallow_clone()));
        self.kept.push(SavedActivation { module: module.clone(), x: output.x.detach(), h, ratio_and_bias });
    }

    /// Adds the gradient of `loss` `[]` to those of `trained` `[…]` each, which are the parameters of
    /// `adapters` and any others.
    pub fn backward(&self, loss: &Tensor, adapters: &AdapterSet, trained: &[Tensor]) {
        if self.kept.is_empty() {
            return loss.backward();
        }
        let inputs: Vec<&Tensor> = self.kept.iter().map(|kept| &kept.h).chain(trained).collect();
        let gradients = Tensor::run_backward(&[loss], &inputs, false, false);
        let (at_modules, at_trained) = gradients.split_at(self.kept.len());

        // Scalars whose gradients are the loss's; an undefined gradient is of what the loss does not reach.
        let mut surrogates = Vec::with_capacity(inputs.len());
        for (kept, gradient) in self.kept.iter().zip(at_modules) {
            let lora = adapters.get(&kept.module).expect("a fused module has an adapter");
            if gradient.defined() {
                surrogates.extend(kept.surrogate_losses(lora, gradient));
            }
        }
        for (parameter, gradient) in trained.iter().zip(at_trained) {
            if gradient.defined() {
                surrogates.push((parameter * gradient).sum(Kind::Float));
            }
        }
        Tensor::stack(&surrogates, 0).sum(Kind::Float).backward();
    }
}

impl SavedActivation {
    /// Scalars whose gradients in the adapter's tensors are the loss's: `gradient` is its gradient in h, `[N, out]`.
    fn surrogate_losses(&self, lora: &Lora, gradient: &Tensor) -> Vec<Tensor> {
        let x = self.x.packed().expect("the rows of a fused module are packed");
        let input_projected = low_rank_product(x, &lora.weighted_down()); // x Aᵀ, [N, R]
        let up = match &self.ratio_and_bias {
            None => lora.up.tr(),
            Some((ratio, _)) => lora.up.tr() * ratio, // [R, out]
        };
        let grad_projected = low_rank_product(gradient, &up); // g (r ⊙ B), [N, R]
        let mut found = vec![(input_projected * grad_projected).sum(Kind::Float) * lora.scale];
        if let (Some((_, bias)), Some(magnitude)) = (&self.ratio_and_bias, &lora.magnitude) {
            let at_rows = tch::no_grad(|| {
                let product = (self.h.detach().to_dense(None, false) - bias) * gradient.to_dense(None, false);
                product.sum_dim_intlist(0, false, Kind::Float) / magnitude // [out]
            });
            found.push((magnitude * at_rows).sum(Kind::Float));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Reduction};

    use super::*;
    use crate::model::core::config::PolicyConfig;
    use crate::model::core::forward::ForwardContext;
    use crate::model::core::inputs::Inputs;
    use crate::model::policy::transformer::TransformerPolicy;

    /// A policy, and windows of 512 steps: even its last block has rows enough for oneDNN.
    fn subject() -> (TransformerPolicy, Inputs) {
        tch::manual_seed(3);
        let sizes =
            PolicyConfig { state_dim: 3, act_dim: 2, hidden_size: 16, n_layer: 2, ..Default::default() };
        let policy = TransformerPolicy::new(
            PolicyConfig { n_positions: 16, max_ep_len: 8, initializer_range: 0.3, ..sizes },
            Device::Cpu,
        );
        let normal = |width| Tensor::randn([128, 4, width], (Kind::Float, Device::Cpu));
        let inputs = Inputs {
            states: normal(3),
            words: None,
            images: None,
            previous: None,
            actions: normal(2).tanh(),
            rewards: None,
            returns_to_go: normal(1),
            timesteps: Tensor::arange(4, (Kind::Int64, Device::Cpu)).repeat([128, 1]),
            mask: Tensor::ones([128, 4], (Kind::Bool, Device::Cpu)),
        };
        (policy, inputs)
    }

    /// Adapters away from zero at every linear module of the blocks, each changed by `change`.
    fn adapters(policy: &TransformerPolicy, change: impl Fn(Lora) -> Lora) -> AdapterSet {
        let mut set = AdapterSet::default();
        for site in policy.sites() {
            let normal = |shape: [i64; 2]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.2;
            let lora = Lora::new(normal([3, site.input]), normal([site.output, 3]), 0.5);
            set.sites.insert(site.module.clone(), change(lora));
        }
        set
    }

    /// Mean squared error of the actions.
    fn loss(policy: &TransformerPolicy, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        policy.mean_actions(context, inputs).mse_loss(&inputs.actions, Reduction::Mean)
    }

    /// What the passes left at each parameter of `set`, which is taken off it.
    fn take_gradients(set: &AdapterSet) -> Vec<Tensor> {
        let take = |(_, mut parameter): (String, Tensor)| {
            let gradient = parameter.grad().copy();
            parameter.zero_grad();
            gradient
        };
        set.parameters().into_iter().map(take).collect()
    }

    fn trained(set: &AdapterSet) -> Vec<Tensor> {
        set.parameters().into_iter().map(|(_, tensor)| tensor).collect()
    }

    #[track_caller]
    fn check(change: impl Fn(Lora) -> Lora, modules: usize) {
        let (policy, inputs) = subject();
        let set = adapters(&policy, change);
        let reference = loss(&policy, &mut ForwardContext::with_adapters(&set), &inputs);
        reference.backward();
        let expected = take_gradients(&set);
        let mut fused = FusedLora::default();
        let found = loss(&policy, &mut ForwardContext::with_adapters(&set).fused(&mut fused), &inputs);
        fused.backward(&found, &set, &trained(&set));
        assert_eq!(fused.kept.len(), modules);
        let (found, reference) = (found.double_value(&[]), reference.double_value(&[]));
        assert!((found - reference).abs() < 1e-6 * reference);
        for (((name, _), found), expected) in
            set.parameters().iter().zip(&take_gradients(&set)).zip(&expected)
        {
            let (off, size) =
                ((found - expected).norm().double_value(&[]), expected.norm().double_value(&[]));
            assert!(size > 0.0 && off < 1e-4 * size, "{name}: {off} of {size}");
        }
    }

    #[test]
    fn gradients_are_autograd_s() {
        check(|lora| lora, 8);
    }

    #[test]
    fn gradients_reach_gains_and_pass_a_start_by() {
        let gained = |lora: Lora| {
            let values = Tensor::from_slice(&[0.5f32, -1.0, 2.0]).set_requires_grad(true);
            let moved = lora.subtract_init();
            let _moved = tch::no_grad(|| moved.down.shallow_clone().g_add_(&moved.down.ones_like()));
            Lora { singular_values: Some(values), ..moved }
        };
        check(gained, 8);
    }

    #[test]
    fn gradients_reach_magnitudes() {
        let dora = |lora: Lora| {
            let magnitude = Tensor::rand([lora.up.size()[0]], (Kind::Float, Device::Cpu)) + 0.5;
            Lora { magnitude: Some(magnitude.set_requires_grad(true)), ..lora }
        };
        check(dora, 8);
    }

    #[test]
    fn adapters_with_dropout_are_left_to_autograd() {
        let (policy, inputs) = subject();
        let set = AdapterSet { dropout: 0.5, ..adapters(&policy, |lora| lora) };
        let mut fused = FusedLora::default();
        let _ =
            loss(&policy, &mut ForwardContext::with_adapters(&set).train(true).fused(&mut fused), &inputs);
        assert!(fused.kept.is_empty());
    }

    #[test]
    fn a_loss_of_several_passes_fused_or_not_has_the_gradients_of_all() {
        let (policy, inputs) = subject();
        let set = adapters(&policy, |lora| lora);
        loss(&policy, &mut ForwardContext::with_adapters(&set), &inputs).backward();
        let once = take_gradients(&set);
        let mut fused = FusedLora::default();
        let mut sum = Tensor::zeros([0i64; 0], (Kind::Float, Device::Cpu));
        for _ in 0..2 {
            sum += loss(&policy, &mut ForwardContext::with_adapters(&set).fused(&mut fused), &inputs);
        }
        sum += loss(&policy, &mut ForwardContext::with_adapters(&set), &inputs) * 2.0;
        fused.backward(&sum, &set, &trained(&set));
        for (once, all) in once.iter().zip(&take_gradients(&set)) {
            let off = (all - once * 4.0).norm() / once.norm();
            assert!(off.double_value(&[]) < 4e-4, "{off:?}");
        }
    }
}
