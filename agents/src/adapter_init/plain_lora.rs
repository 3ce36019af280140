//! LoRA (arXiv 2106.09685): A uniform within ±1/√in, as Kaiming et al. with a = √5, and B = 0.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decomposition::SiteError;
use super::method::WithDefaults;
use super::site_method::{SiteContext, SiteMethod};
use crate::adapter::{self, Lora, LoraOptions};

/// A random and B zero; only the size can be set.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct PlainLora(pub LoraOptions);

impl WithDefaults for PlainLora {
    fn with_defaults(lora: LoraOptions, _: usize) -> Self {
        Self(lora)
    }
}

impl SiteMethod for PlainLora {
    fn name(&self) -> String {
        "LoRA".to_owned()
    }

    fn lora(&self) -> &LoraOptions {
        &self.0
    }

    fn init(&self, site: &SiteContext) -> Result<Lora, SiteError> {
        let (output, input) = site.weight.size2().expect("a weight is a matrix");
        Ok(adapter::lora(input, output, self.0.rank, self.0.scaling(), site.weight.device()))
    }
}
