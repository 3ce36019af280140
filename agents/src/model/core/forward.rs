//! What one forward pass carries besides its input: adapters, an observer of activations, the train flag.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::fused_lora::{FusedLora, FusedOutput};
use super::layers::{Convolution, Linear, Module};
use crate::adapter::site::ModuleName;
use crate::adapter::{AdapterSet, Lora};
use crate::tensor::{Patches, Rows, dropout};

/// Sees the input activations of every linear module and convolution during a pass; other models may name theirs otherwise.
pub trait Tap<S = ModuleName> {
    /// `x` are the inputs of `module`, a row per token, or a row per step outside the blocks.
    fn record(&mut self, module: &S, x: &Rows);

    /// `x` are the inputs of a convolution, an image per step; a tap that does not say otherwise looks away.
    fn record_patches(&mut self, _module: &S, _x: &Patches) {}
}

/// Who follows a forward pass.
enum Observer<'a> {
    Nobody,
    /// Sees every module's inputs.
    Tap(&'a mut dyn Tap),
    /// Computes each adapted module as one product, and keeps what its gradients need.
    FusedLora(&'a mut FusedLora),
}

/// What one forward pass carries besides its input.
pub struct ForwardContext<'a> {
    adapters: Option<&'a AdapterSet>,
    observer: Observer<'a>,
    train: bool,
    mixed: bool,
    /// The rows of a batch that the pass has, where it has not all.
    rows: Option<Range<usize>>,
}

impl<'a> ForwardContext<'a> {
    /// The frozen policy alone, without dropout.
    pub fn bare() -> Self {
        Self { adapters: None, observer: Observer::Nobody, train: false, mixed: false, rows: None }
    }

    /// The policy with `adapters`, without dropout.
    pub fn with_adapters(adapters: &'a AdapterSet) -> Self {
        Self { adapters: Some(adapters), ..Self::bare() }
    }

    /// The same, with dropout where `train` is set.
    pub fn train(self, train: bool) -> Self {
        Self { train, ..self }
    }

    /// The same, where `mixed` is set with products in bfloat16, of weights and into sums that stay float32.
    pub fn mixed(self, mixed: bool) -> Self {
        Self { mixed, ..self }
    }

    /// The same over these rows of a batch, whose dropout is a part of the whole batch's.
    pub fn of_rows(self, rows: Option<Range<usize>>) -> Self {
        Self { rows, ..self }
    }

    /// The same, whose activations `tap` sees.
    pub fn observed_by(self, tap: &'a mut dyn Tap) -> Self {
        Self { observer: Observer::Tap(tap), ..self }
    }

    /// The same, whose adapters are computed with their modules; [`FusedLora::backward`] differentiates the loss.
    pub fn fused(self, fused: &'a mut FusedLora) -> Self {
        Self { observer: Observer::FusedLora(fused), ..self }
    }

    /// Whether a tap sees the pass.
    pub fn is_observed(&self) -> bool {
        matches!(self.observer, Observer::Tap(_))
    }

    /// Whether dropout is on.
    pub fn is_training(&self) -> bool {
        self.train
    }

    /// The kind in which attention multiplies.
    pub fn product_kind(&self) -> Kind {
        if self.mixed { Kind::BFloat16 } else { Kind::Float }
    }

    /// `x` `[…]` with dropout, where this pass trains: `[…]`.
    pub fn dropped(&self, x: &Tensor, probability: f64) -> Tensor {
        match self.train && probability > 0.0 {
            true => dropout(x, probability, self.rows.as_ref()),
            false => x.shallow_clone(),
        }
    }

    /// Tells the observer of a module's inputs.
    pub fn record(&mut self, module: &Module, rows: &Rows) {
        if let Observer::Tap(tap) = &mut self.observer {
            tap.record(&module.name, rows);
        }
    }

    /// The frozen module plus its adapter, if it has one: `[…, in]` → `[…, out]`.
    pub fn project(&mut self, module: &Module, x: &Tensor) -> Tensor {
        module.linear.shaped(&self.project_rows(module, &Rows::of(x)), x)
    }

    /// The same of rows.
    pub fn project_rows(&mut self, module: &Module, rows: &Rows) -> Rows {
        self.record(module, rows);
        let frozen = &module.linear;
        let lora = self.adapters.and_then(|adapters| adapters.get(&module.name));
        if self.mixed {
            return self.project_mixed(lora, frozen, rows);
        }
        let Some(lora) = lora else { return frozen.forward_rows(rows) };
        let fusible = !self.drops_adapter_inputs() && !frozen.weight.requires_grad();
        if let Observer::FusedLora(fused) = &mut self.observer
            && fusible
            && rows.packed().is_some()
        {
            let (weight, ratio) = tch::no_grad(|| lora.folded_into(&frozen.matrix())); // [out, in], [out]
            let h = rows.linear(&weight, &frozen.bias); // [N, out]
            fused.keep(&module.name, &FusedOutput { x: rows, h: &h, ratio, bias: &frozen.bias });
            return h;
        }
        let y = frozen.forward_rows(rows);
        let ratio = lora.magnitude_ratio(&frozen.matrix()); // [out]
        Rows::of(&self.adapted(lora, ratio.as_ref(), frozen, rows.dense(), y.dense()))
    }

    /// The same with products in bfloat16: it has float32's range, so losses need no scaling.
    fn project_mixed(&self, lora: Option<&Lora>, frozen: &Linear, rows: &Rows) -> Rows {
        let half = |x: &Tensor| x.to_kind(Kind::BFloat16);
        let x = half(rows.dense()); // [N, in]
        let ratio = lora.and_then(|lora| lora.magnitude_ratio(&frozen.matrix())); // [out], in float32
        let frozen = Linear { weight: half(&frozen.weight), bias: half(&frozen.bias), ..*frozen };
        let y = x.linear(&frozen.matrix_in(Kind::BFloat16), Some(&frozen.bias)); // [N, out]
        let y = match lora {
            None => y,
            Some(lora) => self.adapted(&lora.to_kind(Kind::BFloat16), ratio.as_ref(), &frozen, &x, &y),
        };
        Rows::of(&y.to_kind(Kind::Float))
    }

    /// The frozen convolution plus its adapter, if it has one, always in float32: `[N, C, H, W]` → `[N, out, H', W']`.
    ///
    /// The adapter is folded into the kernel, which is small beside the images, and autograd goes through it.
    pub fn convolve(&mut self, module: &Convolution, images: &Tensor) -> Tensor {
        if let Observer::Tap(tap) = &mut self.observer {
            tap.record_patches(&module.name, &module.patches(images));
        }
        let Some(lora) = self.adapters.and_then(|adapters| adapters.get(&module.name)) else {
            return module.forward(images);
        };
        let matrix = module.matrix(); // [out, in]
        let (folded, _) = lora.folded_into(&matrix);
        if !self.drops_adapter_inputs() {
            return module.forward_by(&folded, Some(&module.bias), images);
        }
        // What the adapter changes is computed of dropped pixels, as PEFT computes it.
        let dropped = self.dropped(images, self.adapter_dropout());
        module.forward(images) + module.forward_by(&(folded - matrix), None, &dropped)
    }

    fn adapter_dropout(&self) -> f64 {
        self.adapters.map_or(0.0, |adapters| adapters.dropout)
    }

    fn drops_adapter_inputs(&self) -> bool {
        self.train && self.adapter_dropout() > 0.0
    }

    /// The frozen module's output `y` `[N, out]` for `x` `[N, in]`, plus the adapter's, and DoRA's `ratio` `[out]`
    /// where it has one: `[N, out]`.
    fn adapted(
        &self,
        lora: &Lora,
        ratio: Option<&Tensor>,
        frozen: &Linear,
        x: &Tensor,
        y: &Tensor,
    ) -> Tensor {
        let dropped = self.dropped(x, self.adapter_dropout());
        match ratio {
            None => y + lora.forward(&dropped),
            Some(ratio) => {
                // DoRA scales the frozen layer's output for the dropped input too, as PEFT computes it.
                let base = if self.drops_adapter_inputs() {
                    dropped.linear(&frozen.matrix_in(x.kind()), None::<Tensor>)
                } else {
                    y - &frozen.bias
                };
                y + base * (ratio - 1.0) + lora.forward(&dropped) * ratio
            }
        }
    }
}
