//! How a policy's actions are chosen.

use eva_rl_agents::loss::StochasticHead;
use eva_rl_agents::model::{Policy, TransformerPolicy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::errors::InputError;

/// How a policy's actions are chosen.
#[derive(Clone, Copy, Debug)]
pub enum ActionSelection<'a> {
    /// The mode of the policy's distribution.
    Greedy(&'a Policy),
    /// A sample of what the policy's logits say.
    ByLogits(&'a TransformerPolicy),
    /// A sample of Online DT's distribution.
    Sampled(&'a TransformerPolicy, &'a StochasticHead),
}

/// How an evaluation chooses actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Actions {
    /// The most likely action.
    Greedy,
    /// One that is drawn by the policy's logits, as the Atari decision transformer was evaluated; of policies with
    /// discrete or binned actions.
    Sampled,
}

impl Actions {
    /// The choice of `policy`'s actions; refused where they have no logits to be sampled by.
    pub fn of(self, policy: &Policy) -> anyhow::Result<ActionSelection<'_>> {
        match (self, policy) {
            (Self::Greedy, _) => Ok(ActionSelection::Greedy(policy)),
            (Self::Sampled, Policy::Transformer(policy)) => {
                self.check(policy)?;
                Ok(ActionSelection::ByLogits(policy))
            }
            (Self::Sampled, Policy::TorchScript(_)) => Err(Self::refused("a TorchScript module")),
        }
    }

    /// Refuses to sample the actions of a policy that has no logits.
    pub fn check(self, policy: &TransformerPolicy) -> anyhow::Result<()> {
        if self == Self::Sampled && StochasticHead::of_logits(policy).is_none() {
            return Err(Self::refused("a policy of continuous actions"));
        }
        Ok(())
    }

    fn refused(found: &str) -> anyhow::Error {
        InputError(format!(
            "sampled actions were asked for of {found}, which has no logits; expected greedy actions"
        ))
        .into()
    }
}
