//! `sweep`: every run of a grid, several at a time; what is done is skipped, what was stopped goes on.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use eva_rl_agents::ranks::Ranks;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use signal_hook::consts::SIGTERM;

use crate::cli::SweepArgs;
use crate::config::{self, Difference, SweepPlan, SweepRun};
use crate::run_folder::Writer;
use crate::support::errors::{InputError, OrInput, tell};
use crate::support::progress;
use crate::support::ranks;
use crate::support::signals::{self, Stopped};
use crate::support::stdout::{print, print_json};
use crate::support::threads;

/// Between two looks at a run in its process.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a run of a grid ended.
#[derive(Deserialize, Serialize)]
enum Outcome {
    Done,
    Skipped,
    /// By the signal that this program was given.
    Stopped,
    Failed(String),
}

impl Outcome {
    /// The word for it.
    fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }
}

/// Runs `sweep`.
pub fn run(args: SweepArgs) -> anyhow::Result<()> {
    let plan = SweepPlan::read(&args.sweep).or_input()?;
    refuse_other_settings(&plan, &args.out)?;
    if args.dry_run {
        return list(&plan, &args);
    }
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {:?}", args.out))?;
    let world = ranks::world();
    let _writer = if world.is_first() { Some(Writer::of(&args.out, "sweep")?) } else { None };
    let claims = Claims::of(&args.out, world)?;
    signals::listen().context("cannot listen for signals")?;
    let bar = progress::bar(plan.runs.len(), "runs");
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(String, Outcome)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                while let Some(run) = plan.runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if signals::asked().is_some() {
                        break;
                    }
                    if !claims.take(&run.name) {
                        continue;
                    }
                    let outcome = one(run, &args).unwrap_or_else(|e| Outcome::Failed(format!("{e:#}")));
                    match &outcome {
                        Outcome::Done => tell(&format!("{}: done", run.name)),
                        Outcome::Failed(why) => tell(&format!("{}: {why}", run.name)),
                        Outcome::Skipped | Outcome::Stopped => {}
                    }
                    bar.inc(1);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((run.name.clone(), outcome));
                }
            });
        }
    });
    bar.finish_and_clear();
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outcomes = gather(outcomes, world)?;
    claims.remove()?;
    if args.json {
        let ended = |run: &SweepRun| outcomes.iter().find(|(other, _)| *other == run.name);
        let document = plan.runs.iter().map(|run| {
            let mut found = described(run, &args);
            found["outcome"] = json!(ended(run).map_or("not started", |(_, outcome)| outcome.name()));
            if let Some((_, Outcome::Failed(why))) = ended(run) {
                found["error"] = json!(why);
            }
            found
        });
        print_json(&document.collect::<Vec<Value>>())?;
    }
    let count = |of: fn(&Outcome) -> bool| outcomes.iter().filter(|(_, outcome)| of(outcome)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped));
    let (done, all) = (count(|outcome| matches!(outcome, Outcome::Done)), plan.runs.len());
    if world.any(signals::asked().is_some()) {
        let signal = signals::asked().unwrap_or(SIGTERM);
        let text = format!("after {} of {all} runs; the same command goes on", done + skipped);
        return Err(Stopped { signal, text }.into());
    }
    anyhow::ensure!(failed == 0, "{failed} of {all} runs failed; the same command tries them again");
    if args.json {
        return Ok(());
    }
    print(&format!("{done} runs done, {skipped} were done before, in {:?}", args.out))
}

/// Which rank has taken which run: a file each, so that every rank takes the next one as it becomes free.
struct Claims<'a> {
    /// Absent where there is one rank.
    folder: Option<PathBuf>,
    ranks: &'a dyn Ranks,
}

impl<'a> Claims<'a> {
    /// None yet; all ranks begin together.
    fn of(out: &Path, ranks: &'a dyn Ranks) -> anyhow::Result<Self> {
        if ranks.is_alone() {
            return Ok(Self { folder: None, ranks });
        }
        ranks::set_timeout(ranks::NEVER_SECS); // a rank without a run waits for the longest of the others
        let folder = out.join(".claims");
        if ranks.is_first() {
            let _there_is_none = fs::remove_dir_all(&folder);
            fs::create_dir(&folder).with_context(|| format!("cannot make {folder:?}"))?;
        }
        ranks.barrier();
        Ok(Self { folder: Some(folder), ranks })
    }

    /// Whether this rank has taken the run, and no other before.
    fn take(&self, run: &str) -> bool {
        self.folder.as_ref().is_none_or(|folder| File::create_new(folder.join(run)).is_ok())
    }

    /// Forgets them, once all ranks are done.
    fn remove(self) -> anyhow::Result<()> {
        match self.folder {
            Some(folder) if self.ranks.is_first() => {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {folder:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// How the runs of all ranks ended.
fn gather(own: Vec<(String, Outcome)>, ranks: &dyn Ranks) -> anyhow::Result<Vec<(String, Outcome)>> {
    let mut all = Vec::new();
    for bytes in ranks.gather(&serde_json::to_vec(&own)?) {
        all.extend(serde_json::from_slice::<Vec<(String, Outcome)>>(&bytes)?);
    }
    Ok(all)
}

/// Says how each run would be started.
fn list(plan: &SweepPlan, args: &SweepArgs) -> anyhow::Result<()> {
    if args.json {
        return print_json(&plan.runs.iter().map(|run| described(run, args)).collect::<Vec<Value>>());
    }
    for SweepRun { name, config, overrides, .. } in &plan.runs {
        print(&format!("{name}: {} {}", config.display(), overrides.join(" ")))?;
    }
    Ok(())
}

/// What a run is started with, and where.
fn described(run: &SweepRun, args: &SweepArgs) -> Value {
    let SweepRun { name, config, overrides, .. } = run;
    json!({ "name": name, "folder": args.out.join(name), "config": config, "overrides": overrides })
}

/// Refuses a grid whose folders hold runs of the same names with other settings, before anything is started.
fn refuse_other_settings(plan: &SweepPlan, out: &Path) -> anyhow::Result<()> {
    let mut differing = Vec::new();
    for run in &plan.runs {
        let path = out.join(&run.name).join("config.toml");
        if !path.exists() {
            continue;
        }
        let was = config::load(&path, &[]).or_input()?;
        let found: Vec<String> = config::differences(&was, &run.plan.clone().keep_commit_of(&was))
            .iter()
            .map(Difference::to_string)
            .collect();
        if !found.is_empty() {
            differing.push(format!("{}: {}", run.name, found.join("; ")));
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    let (count, all) = (differing.len(), plan.runs.len());
    let text = format!(
        "{count} of the grid's {all} runs are in {out:?} with other settings; name another --out, or move those folders away\n  {}",
        differing.join("\n  ")
    );
    Err(InputError(text).into())
}

/// One run, in a process of its own: begun, gone on with, or left alone where it is finished.
fn one(run: &SweepRun, args: &SweepArgs) -> anyhow::Result<Outcome> {
    let folder = args.out.join(&run.name);
    if folder.join("README.md").exists() {
        return Ok(Outcome::Skipped);
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("train");
    if folder.join("config.toml").exists() {
        command.arg("--resume").arg(&folder);
    } else {
        command.arg(&run.config).arg("--out").arg(&folder);
        run.overrides.iter().for_each(|text| {
            command.args(["--set", text]);
        });
    }
    threads::divide(&mut command, args.jobs as usize);
    ranks::leave_out(&mut command);
    // A group of its own: whoever signals this program's group (a terminal, `timeout`) reaches the run
    // through this program, and so once. It ends with a checkpoint should this program be killed.
    command.process_group(0).arg("--parent").arg(std::process::id().to_string());
    let log = args.out.join(format!("{}.log", run.name));
    let file = File::create(&log).with_context(|| format!("cannot write {log:?}"))?;
    let mut child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
    let mut told = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Some(signal) = signals::asked().filter(|_| !told) {
            told = true;
            tell(&format!("{}: stopping at its next update", run.name));
            // It is still ours to wait for, so its number is nobody else's.
            let signal = Signal::from_named_raw(signal).expect("only signals with names are listened for");
            let _dead_already = kill_process(Pid::from_child(&child), signal);
        }
        std::thread::sleep(LOOK_EVERY);
    };
    if status.success() {
        return Ok(Outcome::Done);
    }
    if signals::asked().is_some() && status.signal().is_some() {
        return Ok(Outcome::Stopped);
    }
    let text = fs::read_to_string(&log).unwrap_or_default();
    Ok(Outcome::Failed(text.lines().last().unwrap_or("it said nothing").to_owned()))
}
