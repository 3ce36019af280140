//! What one forward pass carries besides its input: adapters, a tap on activations, the train flag.

use tch::{Kind, Tensor};

use crate::adapter::{AdapterSet, Lora};
use crate::dropout::dropout;
use crate::linalg::Rows;
use crate::nn::Linear;
use crate::site::Site;

/// Sees the input activations of every site during a pass; models other than ours have sites of their own.
pub trait Tap<S = Site> {
    /// `x` are the inputs of `site`'s linear map, a row a token, or a row a step outside the blocks.
    fn record(&mut self, site: S, x: &Rows);

    /// Whether adapters may be folded into their maps, out of autograd's sight.
    fn folds(&self) -> bool {
        false
    }

    /// Hears of a map whose adapter was folded in.
    fn keep(&mut self, _site: S, _folded: &Folded) {}
}

/// What a map with its adapter folded in did: h = r ⊙ (W + s·B A) x + b.
#[derive(Debug)]
pub struct Folded<'a> {
    /// `[N, in]`, in oneDNN's layout.
    pub x: &'a Rows,
    /// `[N, out]`, in oneDNN's layout.
    pub h: &'a Rows,
    /// DoRA's r, where the adapter has magnitudes: `[out]`.
    pub ratio: Option<Tensor>,
    /// b: `[out]`.
    pub bias: &'a Tensor,
}

/// A tap that looks at nothing.
#[derive(Debug)]
pub struct NoTap;

impl Tap for NoTap {
    fn record(&mut self, _: Site, _: &Rows) {}
}

/// What one forward pass carries besides its input.
pub struct Pass<'a> {
    /// Adapters to add to the frozen maps.
    pub adapters: &'a AdapterSet,
    /// Who sees the sites' inputs.
    pub tap: &'a mut dyn Tap,
    /// Whether dropout is on.
    pub train: bool,
    /// Whether maps and attention multiply in bfloat16, of weights and into sums that stay float32.
    pub mixed: bool,
}

impl Pass<'_> {
    /// `x` `[…]` with dropout, where this pass trains: `[…]`.
    pub fn dropped(&self, x: &Tensor, share: f64) -> Tensor {
        if self.train && share > 0.0 { dropout(x, share) } else { x.shallow_clone() }
    }

    /// The frozen map, plus its adapter's share if it has one: `[…, in]` → `[…, out]`.
    pub fn project(&mut self, site: Site, frozen: &Linear, x: &Tensor) -> Tensor {
        frozen.shaped(&self.project_rows(site, frozen, &Rows::of(x)), x)
    }

    /// The same of rows.
    pub fn project_rows(&mut self, site: Site, frozen: &Linear, rows: &Rows) -> Rows {
        self.tap.record(site, rows);
        if self.mixed {
            return self.project_mixed(site, frozen, rows);
        }
        let Some(lora) = self.adapters.get(site) else { return frozen.forward_rows(rows) };
        let drops = self.train && self.adapters.dropout > 0.0;
        let foldable = !drops && !frozen.weight.requires_grad();
        if foldable && self.tap.folds() && rows.packed().is_some() {
            let (weight, ratio) = tch::no_grad(|| lora.folded_into(&frozen.matrix())); // [out, in], [out]
            let h = rows.linear(&weight, &frozen.bias); // [N, out]
            self.tap.keep(site, &Folded { x: rows, h: &h, ratio, bias: &frozen.bias });
            return h;
        }
        let y = frozen.forward_rows(rows);
        let ratio = lora.magnitude_ratio(&frozen.matrix()); // [out]
        Rows::of(&self.adapted(lora, ratio.as_ref(), frozen, rows.dense(), y.dense()))
    }

    /// The same with products in bfloat16: it has float32's range, so losses need no scaling.
    fn project_mixed(&self, site: Site, frozen: &Linear, rows: &Rows) -> Rows {
        let half = |x: &Tensor| x.to_kind(Kind::BFloat16);
        let x = half(rows.dense()); // [N, in]
        let lora = self.adapters.get(site);
        let ratio = lora.and_then(|lora| lora.magnitude_ratio(&frozen.matrix())); // [out], in float32
        let frozen = Linear { weight: half(&frozen.weight), bias: half(&frozen.bias), ..*frozen };
        let y = x.linear(&frozen.matrix(), Some(&frozen.bias)); // [N, out]
        let y = match lora {
            None => y,
            Some(lora) => self.adapted(&lora.to_kind(Kind::BFloat16), ratio.as_ref(), &frozen, &x, &y),
        };
        Rows::of(&y.to_kind(Kind::Float))
    }

    /// `y` `[N, out]`, which the frozen map made of `x` `[N, in]`, with its adapter's share, and DoRA's
    /// `ratio` `[out]` where it has one: `[N, out]`.
    fn adapted(
        &self,
        lora: &Lora,
        ratio: Option<&Tensor>,
        frozen: &Linear,
        x: &Tensor,
        y: &Tensor,
    ) -> Tensor {
        let drops = self.train && self.adapters.dropout > 0.0;
        let dropped = self.dropped(x, self.adapters.dropout);
        match ratio {
            None => y + lora.forward(&dropped),
            Some(ratio) => {
                // DoRA scales the frozen map of the dropped input too, as PEFT computes it.
                let base =
                    if drops { dropped.linear(&frozen.matrix(), None::<Tensor>) } else { y - &frozen.bias };
                y + base * (ratio - 1.0) + lora.forward(&dropped) * ratio
            }
        }
    }
}
