//! Every method: its key in a config, its options, and what its documentation says of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adalora::AdaLora;
use super::corda::CorDa;
use super::eva::EvaOptions;
use super::ipa::Ipa;
use super::lora_ga::LoraGa;
use super::lora_one::LoraOne;
use super::method::{AdapterMethod, WithDefaults};
use super::milora::MiLora;
use super::olora::OLora;
use super::orthogonal::Orthogonal;
use super::pissa::PiSsa;
use super::plain_lora::PlainLora;
use super::whole_policy::{FullFineTuning, HeadOnly};
use crate::adapter::LoraOptions;

macro_rules! methods {
    ($($(#[$docs:meta])* $key:literal: $variant:ident($options:ty),)*) => {
        /// What is trained, and how its adapters are initialised: `[adapter.eva]`, `[adapter.lora]`, ….
        #[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub enum Method {
            $($(#[$docs])* #[serde(rename = $key)] $variant($options),)*
        }

        impl Method {
            /// Its key in a config.
            pub fn key(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $key,)*
                }
            }

            /// The method of this key with the constants of its paper or of PEFT, for adapters of this size in a run
            /// of so many updates.
            pub fn with_defaults(key: &str, lora: LoraOptions, updates: usize) -> Option<Self> {
                match key {
                    $($key => Some(Self::$variant(WithDefaults::with_defaults(lora, updates))),)*
                    _ => None,
                }
            }

            /// What it does with its options.
            pub fn as_method(&self) -> &dyn AdapterMethod {
                match self {
                    $(Self::$variant(options) => options,)*
                }
            }
        }
    };
}

methods! {
    /// No adapter: every weight of the policy is trained.
    "full_fine_tuning": FullFineTuning(FullFineTuning),
    /// No adapter: the action head is trained.
    "head_only": HeadOnly(HeadOnly),
    /// LoRA (arXiv 2106.09685): A random, B zero.
    "lora": Lora(PlainLora),
    /// A random with orthonormal rows, B zero: EVA without the data.
    "orthogonal": Orthogonal(Orthogonal),
    /// EVA (arXiv 2410.07170): A the principal components of the task's activations, ranks by explained variance.
    "eva": Eva(EvaOptions),
    /// PiSSA (arXiv 2404.02948): the principal singular components of the weights.
    "pissa": Pissa(PiSsa),
    /// MiLoRA (arXiv 2406.09044): the minor singular components of the weights.
    "milora": Milora(MiLora),
    /// OLoRA (arXiv 2406.01775): the QR decomposition of the weights.
    "olora": Olora(OLora),
    /// CorDA (arXiv 2406.05223): the weights' components by the covariance of the task's activations.
    "corda": Corda(CorDa),
    /// LoRA-GA (arXiv 2407.05000): the leading components of the gradient, with unchanged initial outputs.
    "lora_ga": LoraGa(LoraGa),
    /// LoRA-One (arXiv 2502.01235): one step of gradient descent.
    "lora_one": LoraOne(LoraOne),
    /// IPA (arXiv 2509.04398): A the principal components of the task's activations, frozen or not.
    "ipa": Ipa(Ipa),
    /// AdaLoRA (arXiv 2303.10512): a rank budget that shrinks in training.
    "adalora": Adalora(AdaLora),
}

impl Method {
    /// The method's name and size, for reports.
    pub fn label(&self) -> String {
        let mut label = self.as_method().name();
        let Some(lora) = self.as_method().lora() else { return label };
        if lora.dora {
            label += " + DoRA";
        }
        if lora.rslora {
            label += ", rsLoRA";
        }
        label += &format!(", rank {}", lora.rank.get());
        if let Self::Adalora(ada) = self {
            label += &format!(" to {}", ada.target_rank.get());
        }
        label
    }
}
