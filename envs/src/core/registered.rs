//! What a native task tells the registry.

use super::controller::Controller;
use super::error::EnvError;
use super::kwargs::KwargReader;
use super::task::NativeTask;

/// What a task tells the registry.
pub trait Registered: NativeTask + Clone + 'static {
    /// Gymnasium's id.
    const ID: &'static str;
    /// Fewest environments that are worth a thread of their own: about 20 µs of steps.
    const GRAIN: usize;

    /// The task as its options say.
    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError>;

    /// A controller that is worth cloning, if there is one.
    fn controller(&self) -> Option<Box<dyn Controller>>;
}
