//! LRAM's discretised decision transformer, as ml-jku/LRAM has it, the architecture of the large recurrent action models.
//!
//! A step is a state, a return-to-go and a reward, without the action; all dimensions of an action are read at once, at
//! the return's token.

use super::discretised::{self, ActionIds, TOKENS};
use super::family::Family;
use super::gpt2;
use crate::model::core::config::PolicyConfig;
use crate::model::core::tokens::Token;

const STEP: [Token; 3] = [Token::State, Token::Return, Token::Reward];

pub(super) const FAMILY: Family = Family {
    model_types: &["lram"],
    aliases: &[],
    complete: Some(|table, shapes| discretised::complete(table, shapes, &STEP)),
    is_whole_without_config: false,
    tasks_file: None,
    fit: Some(discretised::fit),
    check: discretised::check,
    layout: |config| {
        discretised::layout(config, discretised::vocabulary(config) * discretised::most_actions(config))
    },
    tensor_aliases: &[],
    known_tensor: TOKENS,
    is_buffer: gpt2::is_buffer,
    is_optional: discretised::is_optional,
    is_own: discretised::is_own,
    sites: |config| {
        discretised::sites(config, discretised::vocabulary(config) * discretised::most_actions(config))
    },
    embedding_tables: &["embed_action_disc", "embed_timestep", "encoder.wpe", "encoder.wte"],
    build: |config, weights| discretised::build(config, weights, false),
};

/// The config of a new LRAM policy, as wide as the environment that `config` tells of.
pub fn new_lram_config(ids: ActionIds, config: PolicyConfig) -> PolicyConfig {
    discretised::new_config("lram", &STEP, ids, config)
}
