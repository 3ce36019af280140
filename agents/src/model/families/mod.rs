//! Families of policies. A new one is a file here and a line in [`FAMILIES`].

mod atari_decision_transformer;
mod decision_transformer;
mod discretised;
mod family;
mod gpt2;
mod jat;
mod l2m;
mod lram;
mod named;
mod observation;
mod vintix;

use crate::model::core::bad_field::BadField;
use crate::model::core::config::PolicyConfig;

pub use decision_transformer::new_config;
pub use discretised::ActionIds;
pub use family::Family;
pub use l2m::new_l2m_config;
pub use lram::new_lram_config;

/// Every family.
const FAMILIES: [&Family; 6] = [
    &decision_transformer::FAMILY,
    &atari_decision_transformer::FAMILY,
    &vintix::FAMILY,
    &jat::FAMILY,
    &l2m::FAMILY,
    &lram::FAMILY,
];

/// The family of a config that was checked.
pub(super) fn of(config: &PolicyConfig) -> &'static Family {
    find(&config.model_type).expect("a checked config has a known model type")
}

fn find(model_type: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|family| family.model_types.contains(&model_type))
}

/// The family of a file of tensors beside which no `model_type` stands, by the names that `is_there` knows.
pub(super) fn of_tensors(is_there: impl Fn(&str) -> bool) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|family| family.complete.is_some() && is_there(family.known_tensor))
}

/// The family of a `model_type`, or why there is none.
pub(super) fn named(model_type: &str) -> Result<&'static Family, BadField> {
    find(model_type).ok_or_else(|| {
        let known: Vec<String> = FAMILIES
            .iter()
            .flat_map(|family| family.model_types)
            .map(|model_type| format!("\"{model_type}\""))
            .collect();
        BadField { key: "model_type".into(), found: format!("\"{model_type}\""), wanted: known.join(" or ") }
    })
}

/// Refuses fields that no policy of the config's family can be built from.
pub fn check(config: &PolicyConfig) -> Result<(), BadField> {
    config.check_parts()?;
    (named(&config.model_type)?.check)(config)?;
    config.check()
}
