//! A build without Python workers: their ids are known, and refused.

use super::settings::BridgeSettings;
use crate::core::controller::VecController;
use crate::core::error::EnvError;
use crate::core::kwargs::Kwargs;
use crate::core::vec_env::VecEnv;

pub(crate) fn pool(id: &str, _: &Kwargs, _: usize, _: &BridgeSettings) -> Result<Box<dyn VecEnv>, EnvError> {
    Err(EnvError::WithoutPython { id: id.to_owned() })
}

pub(crate) fn expert(
    id: &str,
    _: &Kwargs,
    _: usize,
    _: &BridgeSettings,
) -> Result<Box<dyn VecController>, EnvError> {
    Err(EnvError::WithoutPython { id: id.to_owned() })
}

pub(crate) fn has_bot(_: &str) -> bool {
    false
}
