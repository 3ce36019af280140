//! A site is a linear map of a block, the place of at most one adapter.

use std::fmt;
use std::str::FromStr;

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
pub struct Site {
    /// Index of the block.
    pub block: usize,
    /// Which linear map of the block.
    pub layer: Layer,
}

impl fmt::Display for Site {
    /// The module's name in Hugging Face's model, such as `encoder.h.0.attn.c_attn`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "encoder.h.{}.{}", self.block, self.layer.module())
    }
}

/// A module name that is no linear map of a block.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no linear map of a block; one looks like `encoder.h.0.attn.c_attn`")]
pub struct UnknownSite(pub String);

impl FromStr for Site {
    type Err = UnknownSite;

    fn from_str(name: &str) -> Result<Self, UnknownSite> {
        let unknown = || UnknownSite(name.to_owned());
        let (block, module) =
            name.strip_prefix("encoder.h.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
        let block = block.parse().map_err(|_| unknown())?;
        let layer = Layer::ALL.into_iter().find(|layer| layer.module() == module).ok_or_else(unknown)?;
        Ok(Self { block, layer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_read_back_from_its_name() {
        for layer in Layer::ALL {
            let site = Site { block: 11, layer };
            assert_eq!(site.to_string().parse::<Site>().unwrap(), site);
        }
    }

    #[test]
    fn an_embedding_is_no_site() {
        assert!("embed_state".parse::<Site>().is_err());
        assert!("encoder.h.x.attn.c_attn".parse::<Site>().is_err());
    }
}
