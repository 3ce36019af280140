//! The transformer trunk that families share: blocks, their attention, and its key/value cache.

mod alibi;
mod block;
mod kv_cache;
mod stack;

pub use alibi::Alibi;
pub use block::{Attention, Block, KeysAndValues, QueriesKeysValues};
pub(in crate::model) use kv_cache::CacheView;
pub use kv_cache::{Cache, cached_context_len, resets_context};
pub use stack::Trunk;
