//! A folder to work in, the program in it, and a tiny policy to work on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A folder of its own, in which the program runs.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eva-rl"));
        // Tests run side by side, so each program keeps to one thread of libtorch's.
        command.current_dir(self.folder.path()).env("OMP_NUM_THREADS", "1").args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs and gives stdout; panics with stderr where it fails.
    #[track_caller]
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Trains as `train` says into `whole` and `killed`, removes the last checkpoints of `killed`, as a kill leaves it,
    /// and resumes it: `files` of the last checkpoint, the last of `removed`, are the same bits.
    #[track_caller]
    pub fn check_resume(&self, train: &[&str], removed: &[&str], files: &[&str]) {
        for out in ["whole", "killed"] {
            self.succeed(&[&["train"], train, &["--out", out]].concat());
        }
        let (last, others) = removed.split_last().unwrap();
        let checkpoints = self.path("killed/checkpoints");
        fs::remove_dir_all(checkpoints.join(last)).unwrap();
        for updates in others {
            fs::remove_dir_all(checkpoints.join(updates)).ok(); // not every algorithm saves there
        }
        self.succeed(&["train", "--resume", "killed"]);
        for file in files {
            let read =
                |run: &str| fs::read(self.path(run).join("checkpoints").join(last).join(file)).unwrap();
            assert!(read("whole") == read("killed"), "{train:?} ends otherwise: {file}");
        }
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A dataset `data`, a run `pretrained` on it, and that run's policy `policy`; they are made once and copied.
    pub fn with_policy() -> Self {
        static MADE: OnceLock<Bench> = OnceLock::new();
        let bench = Self::new();
        copy_folder(MADE.get_or_init(Self::pretrained).folder.path(), bench.folder.path());
        bench
    }

    fn pretrained() -> Self {
        let bench = Self::new();
        bench.succeed(&[
            "collect",
            "--env",
            "Pendulum-v1",
            "--policy",
            "scripted",
            "--noise",
            "0.3",
            "--episodes",
            "4",
            "--out",
            "data",
        ]);
        bench.write("pretrain.toml", PRETRAIN);
        bench.succeed(&["train", "pretrain.toml", "--out", "pretrained"]);
        copy_folder(&bench.path("pretrained/best/policy"), &bench.path("policy"));
        bench.write("adapt.toml", ADAPT);
        bench
    }
}

/// A fixture of the library of policies.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("agents/tests/golden").join(name)
}

/// A policy of the repository.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(name)
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// A test per row: `check(name, value)`.
macro_rules! test_rows {
    ($check:ident: $($name:ident = $value:expr,)*) => {
        $(
            #[test]
            fn $name() {
                $check(stringify!($name), $value);
            }
        )*
    };
}
pub(crate) use test_rows;

pub const PRETRAIN: &str = r#"
seed = 3
[policy.new]
hidden_size = 16
layers = 1
heads = 2
dropout = 0.1
context_length = 4
max_episode_length = 200
return_scale = 200.0
target_return = -200.0
[data]
datasets = ["data"]
[adapter.full_fine_tuning]
[loss.behaviour_cloning]
[optimiser]
batch_size = 16
learning_rate = 1e-3
weight_decay = 0.0
gradient_clip = 0.25
schedule = { cosine = { warmup = 2 } }
[offline]
updates = 20
[env]
id = "Pendulum-v1"
num_envs = 2
[evaluation]
every = 20
episodes = 2
target_returns = [-200.0, -400.0]
[checkpoint]
every = 20
"#;

pub const ADAPT: &str = r#"
seed = 4
[policy.pretrained]
path = "policy"
[data]
datasets = ["data"]
[adapter.eva]
rho = 2.0
tau = 0.99
max_batches = 20
lora = { rank = 2, alpha = 2.0, dropout = 0.1 }
[loss.online_dt]
initial_temperature = 0.1
temperature_learning_rate = 1e-3
[optimiser]
batch_size = 16
learning_rate = 1e-3
weight_decay = 1e-3
gradient_clip = 0.25
schedule = { constant = { warmup = 4 } }
[offline]
updates = 10
[online.odt]
replay_capacity = 5
exploration = { rounds = 3, updates_per_round = 10, target_return = -200.0 }
[env]
id = "Pendulum-v1"
num_envs = 2
kwargs = { g = 12.0 }
[evaluation]
every = 20
episodes = 2
target_returns = [-200.0]
[checkpoint]
every = 5
"#;
