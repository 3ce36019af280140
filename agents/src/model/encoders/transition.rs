//! A step as one token: the observation beside the action and reward that led to it, each embedded by layers of its own.

use tch::Tensor;

use crate::adapter::site::ModuleName;
use crate::model::core::forward::ForwardContext;
use crate::model::core::inputs::Inputs;
use crate::model::core::layers::{LayerNorm, Module};

/// A linear layer, leaky ReLU, and a norm.
#[derive(Debug)]
pub struct NormedLayer {
    /// The layer.
    pub linear: Module,
    /// What follows.
    pub norm: LayerNorm,
}

impl NormedLayer {
    /// `[…, in]` → `[…, out]`.
    fn forward(&self, context: &mut ForwardContext, x: &Tensor) -> Tensor {
        self.norm.forward(&context.project(&self.linear, x).leaky_relu())
    }
}

/// Embeds a step `(oₜ, aₜ₋₁, rₜ₋₁)` as one token, from which aₜ is read.
#[derive(Debug)]
pub struct TransitionEncoder {
    /// Of the observation: S → E → E.
    pub observation: [NormedLayer; 2],
    /// Of the action before: A → F → F.
    pub action: [NormedLayer; 2],
    /// Of the reward before: 1 → G.
    pub reward: Module,
    /// `[1, F]`, in place of the action before an episode's first step.
    pub no_action: Tensor,
    /// `[1, G]`, in place of the reward before an episode's first step.
    pub no_reward: Tensor,
}

impl TransitionEncoder {
    /// Every step as a token: `[B, T, D]` with D = E + F + G.
    pub fn forward(&self, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        let previous = inputs.previous.as_ref().expect("a policy that reads what was before is given it");
        let through = |context: &mut ForwardContext, layers: &[NormedLayer; 2], x: &Tensor| {
            let x = layers[0].forward(context, x);
            layers[1].forward(context, &x)
        };
        let observation = through(context, &self.observation, &inputs.states); // [B, T, E]
        let action = through(context, &self.action, &previous.actions); // [B, T, F]
        let reward = context.project(&self.reward, &previous.rewards).leaky_relu(); // [B, T, G]
        let begins = inputs.timesteps.eq(0).unsqueeze(-1); // [B, T, 1]
        let action = self.no_action.where_self(&begins, &action);
        let reward = self.no_reward.where_self(&begins, &reward);
        Tensor::cat(&[observation, action, reward], -1)
    }

    /// Whether this module reads what the policy is given, rather than another module's output.
    pub fn reads_inputs(&self, module: &ModuleName) -> bool {
        [&self.observation[0].linear, &self.action[0].linear, &self.reward]
            .iter()
            .any(|own| own.name == *module)
    }

    /// Whether this module is one of its layers.
    pub fn holds(&self, module: &ModuleName) -> bool {
        let layers = self.observation.iter().chain(&self.action).map(|layer| &layer.linear);
        layers.chain([&self.reward]).any(|own| own.name == *module)
    }
}
