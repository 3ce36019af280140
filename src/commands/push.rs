//! `push`: a run's best adapter or policy, or a folder of either, uploaded to the Hugging Face Hub.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use eva_rl_agents::adapter::AdapterFolder;
use eva_rl_agents::model::{Given, Policy, PolicyConfig as PolicyFile};
use serde_json::{Value, json};
use tch::Device;

use crate::cli::PushArgs;
use crate::config;
use crate::hub::{self, HubError, HubName, Push, Settings, Upload};
use crate::policies;
use crate::run_folder::hub_card::{self, Shared};
use crate::support::errors::{InputError, OrInput, tell};
use crate::support::stdout::{print, print_json};

/// What the commit says where the user says nothing.
const MESSAGE: &str = "Upload with eva-rl push";

/// A base as PEFT's config names it.
struct NamedBase {
    name: String,
    revision: Option<String>,
}

/// Runs `push`.
pub fn run(args: PushArgs) -> anyhow::Result<()> {
    let name = target(&args)?;
    let run = args.path.join("config.toml").is_file().then_some(args.path.as_path());
    let saved = saved(&args.path)?;
    let aside = tempfile::tempdir().context("cannot make a folder for what is uploaded")?;

    let (base, in_transformers) = match saved.join("adapter_config.json").is_file() {
        true => (Some(base(&args, &saved)?), true),
        false => (None, model_type(&saved)? == PolicyFile::default().model_type),
    };
    if let (None, Some(other)) = (&base, &args.base) {
        let text =
            format!("--base is {other:?}, and {saved:?} is a whole policy, expected it to be left out");
        return Err(InputError(text).into());
    }
    let files = hub::wanted(&name, &files_in(&saved)?).map_err(HubError::for_command)?;
    let files = [hub::shards(&saved, &files), files].concat();
    let mut uploads: Vec<Upload> =
        files.into_iter().map(|file| Upload { file: saved.join(&file), path: file }).collect();
    if let Some(base) = &base {
        let rewritten = aside.path().join("adapter_config.json");
        fs::write(&rewritten, with_base(&saved, base)?)?;
        uploads.retain(|upload| upload.path != "adapter_config.json");
        uploads.push(Upload { path: "adapter_config.json".to_owned(), file: rewritten });
    }

    let card = card(&name, run, &saved, base.as_ref(), in_transformers)?;
    let readme = aside.path().join("README.md");
    fs::write(&readme, &card)?;
    uploads.push(Upload { path: "README.md".to_owned(), file: readme });
    for video in run.map(hub_card::videos).unwrap_or_default() {
        let path = video.file_name().unwrap_or_default().to_string_lossy().into_owned();
        uploads.push(Upload { path, file: video });
    }

    if args.dry_run {
        let files: Vec<String> =
            uploads.iter().map(|upload| format!("{}: {:?}", upload.path, upload.file)).collect();
        return print(&format!("{name} would get\n{}\n\nREADME.md:\n{card}", files.join("\n")));
    }
    let client = hub::Client::new(Settings::of_environment()).map_err(HubError::for_command)?;
    let message = args.message.as_deref().unwrap_or(MESSAGE);
    let pushed = hub::push(&client, Push { name: &name, private: args.private, message }, &uploads);
    let pushed = pushed.map_err(HubError::for_command)?;
    if args.json {
        let files: Vec<&String> = uploads.iter().map(|upload| &upload.path).collect();
        return print_json(
            &json!({ "url": pushed.url, "name": name.to_string(), "commit": pushed.commit, "files": files }),
        );
    }
    print(&format!("{} files are at {}", uploads.len(), pushed.url))
}

/// The repository and its branch.
fn target(args: &PushArgs) -> anyhow::Result<HubName> {
    let refuse = |text: String| anyhow::Error::from(InputError(text));
    let path = &args.repo;
    let name = HubName::of(path)
        .ok_or_else(|| refuse(format!("{path:?} is no name of the Hub, expected hf:OWNER/NAME")))?;
    let mut name = name.map_err(HubError::for_command)?;
    if let Some(folder) = &name.subfolder {
        return Err(refuse(format!(
            "{path:?} names the folder `{folder}`, expected hf:OWNER/NAME, to whose root files go"
        )));
    }
    match (&name.revision, &args.revision) {
        (Some(own), Some(other)) if own != other => Err(refuse(format!(
            "{path:?} names the revision `{own}`, and --revision is `{other}`; give one of them"
        ))),
        _ => {
            name.revision = name.revision.or_else(|| args.revision.clone());
            Ok(name)
        }
    }
}

/// The folder of the adapter or the policy that a path means.
fn saved(path: &Path) -> anyhow::Result<PathBuf> {
    let of_run = ["best/adapter", "best/policy", "adapter", "policy"].map(|below| path.join(below));
    let mut places = of_run.into_iter().chain([path.to_owned()]);
    let holds = |folder: &PathBuf| {
        ["adapter_config.json", "config.json"].iter().any(|file| folder.join(file).is_file())
    };
    places.find(holds).ok_or_else(|| {
        InputError(match path.join("config.toml").is_file() {
            true => format!("the run {path:?} has no best policy yet: it was not evaluated"),
            false => format!("{path:?} holds nothing to upload, expected a run, an adapter (adapter_config.json) or a policy (config.json)"),
        })
        .into()
    })
}

/// The names of a folder's files.
fn files_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder).or_input()?.flatten().filter(|entry| entry.path().is_file());
    Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// The family of a policy, which is read whole, so that what nobody can read is not uploaded.
fn model_type(folder: &Path) -> anyhow::Result<String> {
    match policies::read_policy(folder, Given::default(), Device::Cpu)? {
        Policy::Transformer(policy) => Ok(policy.config().model_type.clone()),
        Policy::TorchScript(_) => Err(InputError(format!(
            "{folder:?} is a TorchScript module, which is code, expected weights in Hugging Face's format"
        ))
        .into()),
    }
}

/// What an adapter adapts, as others can find it; its weights are read too.
fn base(args: &PushArgs, folder: &Path) -> anyhow::Result<NamedBase> {
    let (facts, _) = AdapterFolder::read(folder, Device::Cpu).or_input()?;
    if let Some(base) = &args.base {
        let name = HubName::of(base)
            .ok_or_else(|| InputError(format!("--base is {base:?}, expected hf:OWNER/NAME")))?;
        let name = name.map_err(HubError::for_command)?;
        return Ok(match &name.subfolder {
            Some(_) => NamedBase { name: name.to_string(), revision: None },
            None => NamedBase { name: name.repo, revision: name.revision },
        });
    }
    let is_of_hub =
        facts.base.starts_with("hf:") || hub::is_repo(&facts.base) && !Path::new(&facts.base).exists();
    if is_of_hub {
        return Ok(NamedBase { name: facts.base, revision: facts.revision });
    }
    let name = Path::new(&facts.base).file_name().unwrap_or_default().to_string_lossy().into_owned();
    tell(&format!(
        "the adapter adapts {:?}, a folder of this machine that nobody else has: `eva-rl push {} hf:OWNER/NAME` uploads it, and --base hf:OWNER/NAME names it here",
        facts.base, facts.base
    ));
    Ok(NamedBase { name, revision: None })
}

/// PEFT's config with another base.
fn with_base(folder: &Path, base: &NamedBase) -> anyhow::Result<String> {
    let text = eva_rl_agents::read_text(&folder.join("adapter_config.json")).or_input()?;
    let mut config: Value = serde_json::from_str(&text).or_input()?;
    config["base_model_name_or_path"] = json!(base.name);
    config["revision"] = json!(base.revision);
    Ok(serde_json::to_string_pretty(&config)? + "\n")
}

fn card(
    name: &HubName,
    run: Option<&Path>,
    saved: &Path,
    base: Option<&NamedBase>,
    in_transformers: bool,
) -> anyhow::Result<String> {
    let mut shared = Shared {
        name,
        base: base.map(|base| base.name.as_str()),
        revision: base.and_then(|base| base.revision.as_deref()),
        env: None,
        in_transformers,
    };
    let Some(run) = run else {
        // Whether transformers has the policy that an adapter adapts is not known here.
        shared.in_transformers &= base.is_none();
        let own = eva_rl_agents::read_text(&saved.join("README.md")).ok();
        return Ok(hub_card::of_folder(&shared, own.as_deref()));
    };
    let path = run.join("config.toml");
    let env = config::load(&path, &[]).or_input()?.env.id;
    shared.env = Some(&env);
    match eva_rl_agents::read_text(&run.join("README.md")) {
        Ok(card) => Ok(hub_card::of_run(&shared, &card, &eva_rl_agents::read_text(&path).or_input()?)),
        Err(_) => {
            tell(&format!("the run {run:?} has not ended: its card says what it is, and no results"));
            Ok(hub_card::of_folder(&shared, None))
        }
    }
}
