//! Names of the Hugging Face Hub: `hf:OWNER/NAME[@REVISION][/SUBFOLDER]`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::HubError;

/// What a name begins with.
const PREFIX: &str = "hf:";

/// The form of a name, for messages.
const FORM: &str = "hf:OWNER/NAME[@REVISION][/SUBFOLDER]";

/// Where a policy or an adapter lies on the Hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubName {
    /// `OWNER/NAME`.
    pub repo: String,
    /// A branch, a tag or a commit; the main branch where absent.
    pub revision: Option<String>,
    /// A folder of the repository, or one file of weights in it.
    pub subfolder: Option<String>,
}

impl HubName {
    /// The name that a user's `path` is, if it is one.
    pub fn of(path: &Path) -> Option<Result<Self, HubError>> {
        let text = path.to_str()?.strip_prefix(PREFIX)?;
        Some(Self::parse(text).map_err(|wrong| {
            HubError::Input(format!("{:?} {wrong}, expected {FORM}", path.to_string_lossy()))
        }))
    }

    /// Reads what stands after the prefix; says what is wrong with it where it is no name.
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/');
        let (Some(owner), Some(rest)) = (parts.next(), parts.next()) else {
            return Err("names no repository".to_owned());
        };
        let (name, begun) =
            rest.split_once('@').map_or((rest, None), |(name, revision)| (name, Some(revision)));
        let repo = format!("{owner}/{name}");
        if !is_repo(&repo) {
            return Err(format!("has `{repo}` for a repository"));
        }
        let below = parts.next();
        // Branches of pull requests and of conversions have slashes in their names.
        let (revision, subfolder) = match (begun, below) {
            (Some("refs"), Some(below)) => {
                let mut parts = below.splitn(3, '/');
                let (kind, number) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                (Some(format!("refs/{kind}/{number}")), parts.next())
            }
            (begun, below) => (begun.map(|revision| revision.replace("%2F", "/")), below),
        };
        if let Some(revision) = revision.as_deref().filter(|revision| !is_safe(revision)) {
            return Err(format!("has `{revision}` for a revision"));
        }
        let subfolder =
            subfolder.map(|folder| folder.trim_end_matches('/')).filter(|folder| !folder.is_empty());
        if let Some(folder) = subfolder.filter(|folder| !is_safe(folder)) {
            return Err(format!("has `{folder}` for a folder"));
        }
        Ok(Self { repo, revision, subfolder: subfolder.map(str::to_owned) })
    }

    /// The revision, which is the main branch where none is named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The same at another revision.
    pub fn at(&self, revision: &str) -> Self {
        Self { revision: Some(revision.to_owned()), ..self.clone() }
    }

    /// The name as a user writes it.
    pub fn to_path(&self) -> PathBuf {
        self.to_string().into()
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.repo)?;
        if let Some(revision) = &self.revision {
            let encoded =
                if revision.starts_with("refs/") { revision.clone() } else { revision.replace('/', "%2F") };
            write!(f, "@{encoded}")?;
        }
        self.subfolder.iter().try_for_each(|folder| write!(f, "/{folder}"))
    }
}

/// Whether a text is `OWNER/NAME` as the Hub has them.
pub fn is_repo(text: &str) -> bool {
    let is_part = |part: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let edge = |c: char| inner(c) && !"-.".contains(c);
        !part.is_empty()
            && part.len() <= 96
            && part.chars().all(inner)
            && part.starts_with(edge)
            && part.ends_with(edge)
            && !part.contains("--")
            && !part.contains("..")
    };
    matches!(text.split('/').collect::<Vec<_>>().as_slice(), [owner, name] if is_part(owner) && is_part(name))
}

/// Whether a path with slashes stays below the folder that it is joined to.
pub fn is_safe(path: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.split('/').all(is_part) && !path.contains('\0')
}

/// Whether a text is a whole commit.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(String, Option<String>, Option<String>), String> {
        let name = HubName::of(Path::new(text)).expect("it begins as one");
        name.map(|name| (name.repo, name.revision, name.subfolder)).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(text: &str, repo: &str, revision: Option<&str>, subfolder: Option<&str>) {
        let expected = (repo.to_owned(), revision.map(str::to_owned), subfolder.map(str::to_owned));
        assert_eq!(parsed(text).unwrap(), expected);
        let name = HubName::of(Path::new(text)).unwrap().unwrap();
        assert_eq!(HubName::of(&name.to_path()).unwrap().unwrap(), name, "it is read back as it was");
    }

    #[test]
    fn a_name_has_a_repository_a_revision_and_a_folder() {
        check("hf:a/b", "a/b", None, None);
        check("hf:a/b@v1.0", "a/b", Some("v1.0"), None);
        check("hf:a/b/c/d/", "a/b", None, Some("c/d"));
        check("hf:a/b@v1/c", "a/b", Some("v1"), Some("c"));
        check("hf:a/b@refs/pr/3/c", "a/b", Some("refs/pr/3"), Some("c"));
        check("hf:a/b@feature%2Fx", "a/b", Some("feature/x"), None);
    }

    #[test]
    fn what_is_no_name_is_refused_in_a_sentence() {
        let wrongs = [
            "hf:a",
            "hf:",
            "hf:/b",
            "hf:a/..",
            "hf:a/b@",
            "hf:a/b@../x",
            "hf:a/b/../c",
            "hf:a b/c",
            "hf://a/b",
            "hf:a/b--c",
        ];
        for text in wrongs {
            let error = parsed(text).unwrap_err();
            assert!(error.ends_with(", expected hf:OWNER/NAME[@REVISION][/SUBFOLDER]"), "{error}");
        }
        assert!(HubName::of(Path::new("folder/hf:a")).is_none());
    }
}
