//! Prediction of the next observation, the second half of the loss that JAT is trained with.

use tch::{Kind, Reduction, Tensor};

use crate::model::{ForwardContext, Inputs, TransformerPolicy};
use crate::tensor::cyclic;

/// The mean squared error of the next observation at every real step that has one: of vectors, the reward beside them,
/// over the whole head; of images, over pixels from −1 to 1. None where the policy predicts none.
pub fn next_observation(
    policy: &TransformerPolicy,
    context: &mut ForwardContext,
    inputs: &Inputs,
) -> Option<Tensor> {
    let steps = inputs.mask.size()[1] - 1;
    let later = |x: &Tensor| x.narrow(1, 1, steps);
    let errors = match &inputs.images {
        Some(images) => {
            let predicted = policy.forward(context, inputs).images?.narrow(1, 0, steps); // [B, T − 1, C, H, W]
            let target = later(images).to_kind(Kind::Float) / 127.5 - 1.0;
            predicted.mse_loss(&target, Reduction::None).flatten(2, -1)
        }
        None => {
            let predicted = policy.whole_state_head(context, inputs)?.narrow(1, 0, steps); // [B, T − 1, N]
            let rewards = &inputs.previous.as_ref()?.rewards;
            let target = later(&Tensor::cat(&[&inputs.states, rewards], -1)); // [B, T − 1, S + 1]
            predicted.mse_loss(&cyclic(&target, predicted.size()[2]), Reduction::None)
        }
    };
    let there = later(&inputs.mask).to_kind(Kind::Float); // [B, T − 1]
    let errors = errors.mean_dim([-1i64].as_slice(), false, Kind::Float); // [B, T − 1]
    Some((errors * &there).sum(Kind::Float) / there.sum(Kind::Float))
}
