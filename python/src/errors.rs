//! What goes wrong here, as exceptions.

use std::panic::{AssertUnwindSafe, catch_unwind};

use eva_rl_agents::adapter_init::eva::EvaError;
use pyo3::PyErr;
use pyo3::exceptions::{PyRuntimeError, PyValueError};

/// The exception of an error that says what the activations lack.
pub fn of_eva(error: EvaError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// What `work` gives, or an exception where it panics, as libtorch's errors make it.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, PyErr> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let message =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        PyRuntimeError::new_err(format!("the solver failed: {}", message.unwrap_or("no reason is known")))
    })
}
