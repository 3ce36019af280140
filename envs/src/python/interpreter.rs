//! Which Python interpreter runs the workers.

use std::env;
use std::path::{Path, PathBuf};

/// The user's choice, else the variable `EVA_RL_PYTHON`, else `.bridge/bin/python` in or above the
/// current folder or this program's, else `python3`.
pub(super) fn interpreter(chosen: Option<&Path>) -> PathBuf {
    if let Some(chosen) = chosen {
        return chosen.to_owned();
    }
    if let Some(named) = env::var_os("EVA_RL_PYTHON").filter(|named| !named.is_empty()) {
        return named.into();
    }
    let folders = [env::current_dir().ok(), env::current_exe().ok()];
    let environment = folders.iter().flatten().find_map(|folder| in_or_above(folder));
    environment.unwrap_or_else(|| "python3".into())
}

fn in_or_above(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().map(|folder| folder.join(".bridge/bin/python")).find(|python| python.is_file())
}

/// What to do about a missing module. Only what Gymnasium and EnvPool need is known by its package: another
/// module's name may be a stranger's on the package index.
pub(super) fn remedy(python: &Path, module: &str) -> String {
    let package = match module {
        "envpool" => "envpool==1.2.5",
        "gymnasium" => "gymnasium==1.4.0",
        "metaworld" => "--no-deps metaworld==3.1.1",
        "ale_py" => "ale-py",
        "imageio" | "minigrid" | "mujoco" | "numpy" | "pygame" => module,
        _ => {
            let folder = env::current_dir().unwrap_or_default();
            return format!(
                "`{module}` is looked for in the current folder, {folder:?}, in the folders of PYTHONPATH, and among the packages of `{}`",
                python.display()
            );
        }
    };
    format!(
        "install it with `make bridge` in eva-rl's sources, or `{} -m pip install {package}`",
        python.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_s_package_is_never_advised() {
        let said = remedy(Path::new("python3"), "my_envs");
        assert!(
            !said.contains("install") && said.contains("current folder") && said.contains("PYTHONPATH"),
            "{said}"
        );
        assert!(remedy(Path::new("python3"), "pygame").contains("`python3 -m pip install pygame`"));
    }
}
