//! gymnasium-rs's interface of one environment.

use gymnasium_rs::core::Env;
use ndarray::Array1;

/// What a single environment is to its user.
pub type SingleEnv = dyn Env<Array1<f32>, Array1<f32>> + Send;
