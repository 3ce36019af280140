//! L2M's discretised decision transformer, as ml-jku/L2M has it.
//!
//! A step is a state, a return-to-go, a token for each dimension of the action, and a reward; dimensions are chosen one
//! after another, each read at the token before its own.

use super::discretised::{self, ActionIds, TOKENS};
use super::family::Family;
use super::gpt2;
use crate::model::core::config::PolicyConfig;
use crate::model::core::tokens::Token;

const STEP: [Token; 4] = [Token::State, Token::Return, Token::Action, Token::Reward];

pub(super) const FAMILY: Family = Family {
    model_types: &["l2m"],
    aliases: &[],
    complete: Some(|table, shapes| discretised::complete(table, shapes, &STEP)),
    is_whole_without_config: false,
    tasks_file: None,
    fit: Some(discretised::fit),
    check: discretised::check,
    layout: |config| discretised::layout(config, discretised::vocabulary(config)),
    tensor_aliases: &[],
    known_tensor: TOKENS,
    is_buffer: gpt2::is_buffer,
    is_optional: discretised::is_optional,
    is_own: discretised::is_own,
    sites: |config| discretised::sites(config, discretised::vocabulary(config)),
    embedding_tables: &["embed_action_disc", "embed_timestep", "encoder.wpe", "encoder.wte"],
    build: |config, weights| discretised::build(config, weights, true),
};

/// The config of a new L2M policy, as wide as the environment that `config` tells of.
pub fn new_l2m_config(ids: ActionIds, config: PolicyConfig) -> PolicyConfig {
    discretised::new_config("l2m", &STEP, ids, config)
}
