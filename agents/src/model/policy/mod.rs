//! Policies made of the parts, and how they act: by whole windows, sliding windows, or a key/value cache.

pub mod embedded_images;
pub mod embedding_cache;
pub mod sliding;
pub mod transformer;

mod acting;
