//! LRAM's discretised decision transformer, as ml-jku/LRAM has it, the architecture of the large recurrent action models.
//!
//! A step is a state, a return-to-go and a reward, without the action; all dimensions of an action are read at once, at
//! the return's token.

use serde_json::json;

use super::discretised::{self, TOKENS};
use super::family::Family;
use super::gpt2;

pub(super) const FAMILY: Family = Family {
    model_types: &["lram"],
    aliases: &[],
    complete: Some(|table, shapes| {
        let tokens = json!(["state", "return", "reward"]);
        discretised::complete(table, shapes, tokens);
    }),
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
