//! How an adapter's folder names the policy that it adapts.

use std::path::Path;

use crate::hub::{self, HubName};
use crate::support::atomic::absolute;

/// The policy that an adapter adapts, as PEFT's files name it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    /// `OWNER/NAME` of the Hub, as PEFT takes it, or a folder of this machine.
    pub name: String,
    /// The commit of a policy of the Hub.
    pub revision: Option<String>,
}

impl Base {
    /// The policy that a user's path means.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let Some(Ok(name)) = HubName::of(path) else {
            return Ok(Self { name: absolute(path).display().to_string(), revision: None });
        };
        let commit = hub::commit(path)?;
        Ok(match (&name.subfolder, commit) {
            // PEFT has no key for a folder in a repository, so that the whole name stands there.
            (Some(_), Some(commit)) => Self { name: name.at(&commit).to_string(), revision: None },
            (_, revision) => Self { name: name.repo, revision },
        })
    }
}
