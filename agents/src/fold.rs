//! Adapters folded into their maps for one update: h = r ⊙ (W + s·B A) x + b is one product and not three,
//! where r = m / ‖W + s·B A‖ is DoRA's, and 1 without it.
//!
//! Autograd would then want the gradient of the whole weight, and is not asked for it. With g the loss's
//! gradient in h, the gradients of A and B are those of `s·Σ (g (r ⊙ B)) ⊙ (x Aᵀ)`, whose products are as thin
//! as A. That of m is `Σ g ⊙ (h − b) / m` over the rows, because the norm counts as a constant.

use tch::{Kind, Tensor};

use crate::adapter::{AdapterSet, Lora};
use crate::linalg::{Rows, thin_product};
use crate::pass::{Folded, Tap};
use crate::site::Site;

/// A tap for passes of an update, by which they fold their adapters. The loss that they make is
/// differentiated by [`Fold::backward`]; its own `backward` would leave the adapters out.
#[derive(Debug, Default)]
pub struct Fold {
    kept: Vec<Kept>,
}

/// One map of one pass.
#[derive(Debug)]
struct Kept {
    site: Site,
    x: Rows,
    /// What the map made of `x`, `[N, out]` in oneDNN's layout.
    h: Tensor,
    /// `[out]` each, of an adapter with magnitudes.
    ratio_and_bias: Option<(Tensor, Tensor)>,
}

impl Tap for Fold {
    fn record(&mut self, _: Site, _: &Rows) {}

    fn folds(&self) -> bool {
        true
    }

    fn keep(&mut self, site: Site, folded: &Folded) {
        let h = folded.h.packed().expect("a map of packed rows gives packed rows"); // [N, out]
        // Where no adapter came before, autograd does not look at it yet.
        let h = if h.requires_grad() { h.shallow_clone() } else { h.set_requires_grad(true) };
        let ratio_and_bias =
            folded.ratio.as_ref().map(|ratio| (ratio.shallow_clone(), folded.bias.shallow_clone()));
        self.kept.push(Kept { site, x: folded.x.detach(), h, ratio_and_bias });
    }
}

impl Fold {
    /// Adds the gradient of `loss` `[]` to those of `trained` `[…]` each, which are the parameters of
    /// `adapters` and any others.
    pub fn backward(&self, loss: &Tensor, adapters: &AdapterSet, trained: &[Tensor]) {
        if self.kept.is_empty() {
            return loss.backward();
        }
        let inputs: Vec<&Tensor> = self.kept.iter().map(|kept| &kept.h).chain(trained).collect();
        let gradients = Tensor::run_backward(&[loss], &inputs, false, false);
        let (at_maps, at_trained) = gradients.split_at(self.kept.len());

        // Numbers whose gradients are the loss's, [] each; an undefined one is of what the loss does not reach.
        let mut stand_ins = Vec::with_capacity(inputs.len());
        for (kept, gradient) in self.kept.iter().zip(at_maps) {
            let lora = adapters.get(kept.site).expect("a folded map has an adapter");
            if gradient.defined() {
                stand_ins.extend(kept.stand_ins(lora, gradient));
            }
        }
        for (parameter, gradient) in trained.iter().zip(at_trained) {
            if gradient.defined() {
                stand_ins.push((parameter * gradient).sum(Kind::Float));
            }
        }
        Tensor::stack(&stand_ins, 0).sum(Kind::Float).backward();
    }
}

impl Kept {
    /// Numbers `[]` whose gradients at the adapter's tensors are the loss's: `gradient` is its at h, `[N, out]`.
    fn stand_ins(&self, lora: &Lora, gradient: &Tensor) -> Vec<Tensor> {
        let x = self.x.packed().expect("the rows of a folded map are packed");
        let seen = thin_product(x, &lora.gained_down()); // x Aᵀ, [N, R]
        let up = match &self.ratio_and_bias {
            None => lora.up.tr(),
            Some((ratio, _)) => lora.up.tr() * ratio, // [R, out]
        };
        let felt = thin_product(gradient, &up); // g (r ⊙ B), [N, R]
        let mut found = vec![(seen * felt).sum(Kind::Float) * lora.scale];
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
    use tch::Device;

    use super::*;
    use crate::model::{DecisionTransformer, Inputs, PolicyConfig};
    use crate::objective;
    use crate::pass::{NoTap, Pass};

    /// A policy, and windows of 512 steps: even its last block has rows enough for oneDNN.
    fn subject() -> (DecisionTransformer, Inputs) {
        tch::manual_seed(3);
        let sizes =
            PolicyConfig { state_dim: 3, act_dim: 2, hidden_size: 16, n_layer: 2, ..Default::default() };
        let policy = DecisionTransformer::new(
            PolicyConfig { n_positions: 16, max_ep_len: 8, initializer_range: 0.3, ..sizes },
            Device::Cpu,
        );
        let normal = |width| Tensor::randn([128, 4, width], (Kind::Float, Device::Cpu));
        let inputs = Inputs {
            states: normal(3),
            actions: normal(2).tanh(),
            rewards: None,
            returns_to_go: normal(1),
            timesteps: Tensor::arange(4, (Kind::Int64, Device::Cpu)).repeat([128, 1]),
            mask: Tensor::ones([128, 4], (Kind::Bool, Device::Cpu)),
        };
        (policy, inputs)
    }

    /// Adapters away from zero at every map of the blocks, each changed by `change`.
    fn adapters(policy: &DecisionTransformer, change: impl Fn(Lora) -> Lora) -> AdapterSet {
        let mut set = AdapterSet::default();
        for site in policy.sites() {
            let (input, output) = policy.site_shape(site).unwrap();
            let normal = |shape: [i64; 2]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.2;
            set.sites.insert(site, change(Lora::new(normal([3, input]), normal([output, 3]), 0.5)));
        }
        set
    }

    /// The loss of a pass with this tap, and the gradient that `backward` leaves at each parameter.
    fn gradients<T: Tap>(
        subject: (&DecisionTransformer, &AdapterSet, &Inputs),
        mut tap: T,
        backward: impl Fn(&T, &Tensor, &[Tensor]),
    ) -> (f64, Vec<Tensor>, T) {
        let (policy, adapters, inputs) = subject;
        let trained: Vec<Tensor> = adapters.parameters().into_iter().map(|(_, tensor)| tensor).collect();
        let loss = objective::imitation(
            policy,
            &mut Pass { adapters, tap: &mut tap, train: false, mixed: false },
            inputs,
        );
        backward(&tap, &loss, &trained);
        let take = |mut parameter: Tensor| {
            let gradient = parameter.grad().copy();
            parameter.zero_grad();
            gradient
        };
        (loss.double_value(&[]), trained.into_iter().map(take).collect(), tap)
    }

    #[track_caller]
    fn check(change: impl Fn(Lora) -> Lora, maps: usize) {
        let (policy, inputs) = subject();
        let set = adapters(&policy, change);
        let subject = (&policy, &set, &inputs);
        let (expected_loss, expected, _) = gradients(subject, NoTap, |_, loss, _| loss.backward());
        let folding = |fold: &Fold, loss: &Tensor, trained: &[Tensor]| fold.backward(loss, &set, trained);
        let (loss, found, fold) = gradients(subject, Fold::default(), folding);
        assert_eq!(fold.kept.len(), maps);
        assert!((loss - expected_loss).abs() < 1e-6 * expected_loss);
        for (((name, _), found), expected) in set.parameters().iter().zip(&found).zip(&expected) {
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
            let gains = Tensor::from_slice(&[0.5f32, -1.0, 2.0]).set_requires_grad(true);
            let moved = lora.starting_here();
            let _moved = tch::no_grad(|| moved.down.shallow_clone().g_add_(&moved.down.ones_like()));
            Lora { gains: Some(gains), ..moved }
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
        let mut fold = Fold::default();
        let _ = objective::imitation(
            &policy,
            &mut Pass { adapters: &set, tap: &mut fold, train: true, mixed: false },
            &inputs,
        );
        assert!(fold.kept.is_empty());
    }

    #[test]
    fn a_loss_of_several_passes_folded_or_not_has_the_gradients_of_all() {
        let (policy, inputs) = subject();
        let set = adapters(&policy, |lora| lora);
        let (_, once, _) = gradients((&policy, &set, &inputs), NoTap, |_, loss, _| loss.backward());
        let mut fold = Fold::default();
        let mut loss = Tensor::zeros([0i64; 0], (Kind::Float, Device::Cpu));
        for _ in 0..2 {
            let mut pass = Pass { adapters: &set, tap: &mut fold, train: false, mixed: false };
            loss += objective::imitation(&policy, &mut pass, &inputs);
        }
        let mut pass = Pass { adapters: &set, tap: &mut NoTap, train: false, mixed: false };
        loss += objective::imitation(&policy, &mut pass, &inputs) * 2.0;
        let trained: Vec<Tensor> = set.parameters().into_iter().map(|(_, tensor)| tensor).collect();
        fold.backward(&loss, &set, &trained);
        for (once, all) in once.iter().zip(&trained) {
            let off = (all.grad() - once * 4.0).norm() / once.norm();
            assert!(off.double_value(&[]) < 4e-4, "{off:?}");
        }
    }
}
