//! Behaviour cloning: the recorded actions, given what the policy saw.

use tch::{Reduction, Tensor};

use super::rows::real_rows;
use crate::model::heads::bins::{self, Bins};
use crate::model::{ActionKind, ForwardContext, Inputs, TransformerPolicy};
use crate::tensor::cyclic;

/// The mean loss of behaviour cloning over real steps: squared error, or cross entropy where actions
/// are discrete or binned.
pub fn behaviour_cloning(
    policy: &TransformerPolicy,
    context: &mut ForwardContext,
    inputs: &Inputs,
) -> Tensor {
    let config = policy.config();
    let encoded = real_rows(&policy.encode_for_actions(context, inputs), &inputs.mask); // [N, D]
    // Of a head of more numbers than the actions have, the target is the actions over and over, as JAT is trained.
    let head = policy.whole_action_head(context, &encoded); // [N, A or more] or [N, A · bins]
    let target = real_rows(&inputs.actions, &inputs.mask); // [N, A]
    match config.action_kind {
        ActionKind::Continuous if config.action_tanh => head.tanh().mse_loss(&target, Reduction::Mean),
        ActionKind::Continuous => {
            let width = head.size()[1];
            head.mse_loss(&cyclic(&target, width), Reduction::Mean)
        }
        ActionKind::Discrete => head.cross_entropy_for_logits(&target.argmax(-1, false)),
        ActionKind::Binned => {
            let head = head.narrow(-1, 0, config.action_outputs()); // without dimensions of other environments
            let logits = bins::split(&head, config.act_dim).flatten(0, 1); // [N · A, bins]
            let nearest = Bins::of(config).nearest(&target).flatten(0, 1); // [N · A]
            logits.cross_entropy_for_logits(&nearest)
        }
    }
}
