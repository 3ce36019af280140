//! The variables by which the Hub's own programs are set up, which are ours too.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

/// Where the Hub is, where its files are kept, and who asks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HF_ENDPOINT`, else the Hub's address; no slash at its end.
    pub endpoint: String,
    /// `HF_HUB_CACHE`, else the folder `hub` of `HF_HOME`.
    pub cache: PathBuf,
    /// `HF_TOKEN`, else what `hf auth login` has left.
    pub token: Option<String>,
    /// Whether `HF_HUB_OFFLINE` forbids to connect.
    pub offline: bool,
    /// How long a server may be silent: `HF_HUB_DOWNLOAD_TIMEOUT`, in seconds.
    pub patience: Duration,
}

impl Settings {
    /// What the environment's variables say.
    pub fn of_environment() -> Self {
        let home = folder("HF_HOME").unwrap_or_else(|| {
            folder("XDG_CACHE_HOME").unwrap_or_else(|| user_home().join(".cache")).join("huggingface")
        });
        let token_file = folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let read_token = || std::fs::read_to_string(token_file).ok();
        let token = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN")).or_else(read_token);
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let cache = folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE"));
        let patience = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|secs| secs.parse().ok());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: cache.unwrap_or_else(|| home.join("hub")),
            token,
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                .into_iter()
                .find_map(variable)
                .is_some_and(|value| is_yes(&value)),
            patience: Duration::from_secs(patience.unwrap_or(10).max(1)),
        }
    }
}

/// The folder in which minari keeps datasets.
pub fn minari_folder() -> PathBuf {
    folder("MINARI_DATASETS_PATH").unwrap_or_else(|| user_home().join(".minari/datasets"))
}

/// The owner of the datasets on the Hub, where `MINARI_REMOTE` or minari's default has them.
pub fn minari_remote() -> String {
    variable("MINARI_REMOTE").unwrap_or_else(|| "hf://farama-minari".to_owned())
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// A variable that names a folder, with `~` as Python reads it.
fn folder(name: &str) -> Option<PathBuf> {
    let value = variable(name)?;
    Some(match value.strip_prefix('~') {
        Some("") => user_home(),
        Some(rest) if rest.starts_with('/') => user_home().join(rest.trim_start_matches('/')),
        _ => value.into(),
    })
}

fn user_home() -> PathBuf {
    env::home_dir().unwrap_or_default()
}

/// What Python's huggingface_hub takes for true.
fn is_yes(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
}
