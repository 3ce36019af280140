//! A site is a linear map of the policy, the place of at most one adapter.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one token of a step says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Token {
    /// What is still to be earned.
    Return,
    /// What the environment shows.
    State,
    /// What the policy does.
    Action,
    /// What the action earned.
    Reward,
}

/// What a head reads off a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Head {
    /// The next action.
    Action,
    /// The next state.
    State,
    /// The next return-to-go.
    Return,
}

/// Which linear map of a block, in the order of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// Query, key and value together: D → 3·D.
    AttentionIn,
    /// The heads' outputs back to the residual stream: D → D.
    AttentionOut,
    /// The feed-forward part's first map: D → I.
    MlpIn,
    /// The feed-forward part's second map: I → D.
    MlpOut,
}

impl Layer {
    /// Every layer of a block, in the order of the forward pass.
    pub const ALL: [Self; 4] = [Self::AttentionIn, Self::AttentionOut, Self::MlpIn, Self::MlpOut];

    /// The layer's name inside a block in Hugging Face's `DecisionTransformerModel`.
    pub fn module(self) -> &'static str {
        match self {
            Self::AttentionIn => "attn.c_attn",
            Self::AttentionOut => "attn.c_proj",
            Self::MlpIn => "mlp.c_fc",
            Self::MlpOut => "mlp.c_proj",
        }
    }
}

/// One linear map of the policy; sites order as the forward pass meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// The map that embeds one kind of token.
    Embed(Token),
    /// A map of a block.
    Block {
        /// Index of the block.
        block: usize,
        /// Which linear map of the block.
        layer: Layer,
    },
    /// The map of a head.
    Predict(Head),
}

/// Sites outside the blocks, with their names in Hugging Face's model.
const OUTER: [(Site, &str); 7] = [
    (Site::Embed(Token::Return), "embed_return"),
    (Site::Embed(Token::State), "embed_state"),
    (Site::Embed(Token::Action), "embed_action"),
    (Site::Embed(Token::Reward), "embed_reward"),
    (Site::Predict(Head::Action), "predict_action.0"),
    (Site::Predict(Head::State), "predict_state"),
    (Site::Predict(Head::Return), "predict_return"),
];

/// The modules that are embedding tables, which are no sites: an adapter of theirs is read, and folded in.
pub const TABLES: [&str; 3] = ["embed_timestep", "encoder.wpe", "encoder.wte"];

impl Site {
    /// Whether its weight is kept as `[in, out]`, as GPT-2's Conv1D keeps it.
    pub fn fan_in_fan_out(self) -> bool {
        matches!(self, Self::Block { .. })
    }
}

impl fmt::Display for Site {
    /// The module's name in Hugging Face's model, such as `encoder.h.0.attn.c_attn`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Block { block, layer } = self {
            return write!(f, "encoder.h.{block}.{}", layer.module());
        }
        let (_, name) = OUTER.iter().find(|(site, _)| site == self).expect("every outer site has a name");
        f.write_str(name)
    }
}

/// A module name that is no linear map of a policy.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no linear map of a decision transformer; one looks like `encoder.h.0.attn.c_attn`")]
pub struct UnknownSite(pub String);

impl FromStr for Site {
    type Err = UnknownSite;

    fn from_str(name: &str) -> Result<Self, UnknownSite> {
        if let Some((site, _)) = OUTER.iter().find(|(_, outer)| *outer == name) {
            return Ok(*site);
        }
        let unknown = || UnknownSite(name.to_owned());
        let (block, module) =
            name.strip_prefix("encoder.h.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
        let block = block.parse().map_err(|_| unknown())?;
        let layer = Layer::ALL.into_iter().find(|layer| layer.module() == module).ok_or_else(unknown)?;
        Ok(Self::Block { block, layer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_read_back_from_its_name() {
        let blocks = Layer::ALL.map(|layer| Site::Block { block: 11, layer });
        for site in blocks.into_iter().chain(OUTER.map(|(site, _)| site)) {
            assert_eq!(site.to_string().parse::<Site>().unwrap(), site);
        }
    }

    #[test]
    fn an_embedding_table_is_no_site() {
        assert!("embed_timestep".parse::<Site>().is_err());
        assert!("encoder.h.x.attn.c_attn".parse::<Site>().is_err());
    }
}
