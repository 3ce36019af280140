//! A field of a policy's files that cannot be.

use std::borrow::Cow;

/// A field of a policy's files that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` is {found}, expected {wanted}")]
pub struct BadField {
    /// The field.
    pub key: Cow<'static, str>,
    /// Its value.
    pub found: String,
    /// What it should have been.
    pub wanted: String,
}
