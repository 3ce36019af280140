//! `collect`: offline trajectories from a scripted controller, random play or a policy.

use std::path::{Path, PathBuf};

use eva_rl_agents::model::{Policy, PolicyConfig};
use eva_rl_envs::EnvSpec;
use tch::Device;

use crate::cli::CollectArgs;
use crate::data::{self, DatasetFacts, RecordedEnv, Spool, Trajectory};
use crate::evaluation::{Evaluation, Play};
use crate::hub::HubName;
use crate::policies;
use crate::policies::{Shown, Source, TaskEnv};
use crate::rollout::{self, Actor, ExpertActor, NoisyActor, RandomActor, ScriptedActor};
use crate::support::atomic::refuse_existing;
use crate::support::errors::{InputError, OrInput, env_failure, tell};
use crate::support::ranks;
use crate::support::seeds::{self, Purpose};
use crate::support::stdout::{print, print_json};
use crate::support::threads;

/// Runs `collect`.
pub fn run(args: CollectArgs) -> anyhow::Result<()> {
    refuse_existing(&args.out)?;
    if let Some(noise) = args.noise.iter().find(|noise| !(noise.is_finite() && **noise >= 0.0)) {
        return Err(InputError(format!("--noise is {noise}, expected numbers of at least 0")).into());
    }
    if let Some(name) = args
        .env
        .options
        .infos
        .iter()
        .find(|name| matches!(name.as_str(), "" | "." | "..") || name.contains('/'))
    {
        let text = format!(
            "--env-info is {name:?}, expected a name that a dataset can have: without `/`, and neither empty nor dots"
        );
        return Err(InputError(text).into());
    }
    let num_envs = args.env.options.num_envs.min(args.episodes) as usize;
    let player = Player::of(&args)?;
    let TaskEnv { id, kwargs, reference } = args.env.resolve(player.policy())?;
    let mut bridge = args.env.options.bridge(&id, player.reads_images())?;
    bridge.bot = matches!(player, Player::Scripted) && eva_rl_envs::has_bot(&id);
    let mut env = rollout::make_part(ranks::world(), &id, &kwargs, num_envs, &bridge).map_err(env_failure)?;
    let own_envs = env.num_envs();
    let spec = EnvSpec { reference: reference.or(env.spec().reference), ..env.spec().clone() };
    if let Err(reason) = policies::check_actions(&spec.action, &format!("`{}`", spec.id)) {
        tell(&format!("note: {reason}: `train` will refuse this dataset"));
    }
    let seed = seeds::seed(args.seed, Purpose::Collection, 0);
    // The folders above the dataset's are made with it.
    let above = args.out.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let (spool, ranks) = (Spool::new(above)?, ranks::world());
    // Plays all episodes, and sums them up.
    let mut play = |actor: &mut dyn Actor| -> anyhow::Result<Evaluation> {
        let mut noisy = NoisyActor { actor, space: spec.action.clone(), scales: args.noise.clone() };
        let keep = |number: usize, episode: Trajectory| spool.push(number, &episode);
        let episodes = args.episodes as usize;
        let (lost, _) = rollout::play_into(env.as_mut(), &mut noisy, episodes, seed, 1, &keep, ranks)?;
        spool.gather(ranks, episodes)?;
        Ok(Evaluation::of_outcomes(&spool.outcomes(), ranks.count(lost), &spec))
    };

    let mut setting = String::new();
    let found = match player {
        Player::Random => play(&mut RandomActor { space: spec.action.clone() })?,
        Player::Scripted if bridge.bot => play(&mut ExpertActor { space: spec.action.clone() })?,
        Player::Scripted => {
            let controller = eva_rl_envs::scripted_with(&id, &kwargs, own_envs, &bridge);
            play(&mut ScriptedActor {
                controller: controller.or_input()?,
                space: spec.action.clone(),
                observation_width: spec.observation_width(),
            })?
        }
        Player::Policy(source, policy) => {
            let whose = format!("`{}`", spec.id);
            let mut policy = policies::fitted(*policy, Shown::by(&spec), &spec.action, &whose)?;
            threads::for_rollouts(policy.config(), num_envs);
            let data = args.of_data.read(policy.reads_images())?;
            source.take_statistics(policy.config_mut(), data.as_slice(), args.of_data.data.as_deref())?;
            let asked = args.of_data.targets(args.target_return.as_slice(), data.as_ref())?;
            let target = asked.first().copied();
            let mut conditioning =
                policies::conditioning(policy.config(), policy.device(), &source.policy, target)?;
            conditioning.return_cap = args.acting.cap()?;
            policies::check_returns(&conditioning, &asked, conditioning.return_cap)?;
            policies::check_spaces(policy.config(), Shown::by(&spec), &spec.action, &whose)?;
            let target_return = conditioning.target_return;
            policies::tell_long_episodes(policy.config(), &spec);
            policies::tell_far_targets(&[target_return], conditioning.max_return_to_go);
            let (choice, inference) = (args.acting.actions.of(&policy)?, args.acting.inference.by(&policy));
            let how =
                Play { choice, conditioning: &conditioning, target_return, inference, prompt: None, ranks };
            let found = play(&mut how.actor(&spec.action))?;
            setting = found.clone().by(&how).setting();
            found
        }
    };
    let noise = args.noise.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
    let outcomes = spool.outcomes();
    let algorithm = match args.policy.as_str() {
        "scripted" | "random" => format!("{} with noise {noise}", args.policy),
        path => format!("policy {path} with noise {noise}, {setting}"),
    };
    let facts = DatasetFacts {
        observation_width: spec.observation_width(),
        space: spec.space.as_ref().filter(|space| !space.is_row()),
        image: spec.image.is_some(),
        action: &spec.action,
        algorithm: &algorithm,
        env: Some(RecordedEnv { spec: &spec, id: &id, kwargs: &kwargs, imports: &bridge.imports }),
        size: (outcomes.len(), outcomes.iter().map(|outcome| outcome.steps).sum()),
    };
    if ranks.is_first() {
        data::write_episodes(&facts, spool.into_episodes()?, &args.out)?;
    }
    if args.json {
        return print_json(&serde_json::json!({ "dataset": args.out, "result": found }));
    }
    let setting = if setting.is_empty() { setting } else { format!("{setting}: ") };
    print(&format!("{}: {setting}{}", args.out.display(), found.line()))
}

/// Who acts.
enum Player {
    Random,
    Scripted,
    /// A policy and where it was read.
    Policy(Source, Box<Policy>),
}

impl Player {
    fn of(args: &CollectArgs) -> anyhow::Result<Self> {
        Ok(match args.policy.as_str() {
            "random" => Self::Random,
            "scripted" => Self::Scripted,
            path => {
                let path = policy_folder(path)?;
                let source = args.given.source(&path, None)?;
                let policy = policies::read_merged(&source, Device::Cpu)?;
                Self::Policy(source, Box::new(policy))
            }
        })
    }

    /// The policy's config and folder, if it is one.
    fn policy(&self) -> Option<(&PolicyConfig, &Path)> {
        match self {
            Self::Random | Self::Scripted => None,
            Self::Policy(source, policy) => Some((policy.config(), &source.policy)),
        }
    }

    /// Whether images are kept apart from numbers for it, and in the dataset; a policy of vectors reads everything
    /// flattened.
    fn reads_images(&self) -> bool {
        match self {
            Self::Random | Self::Scripted => true,
            Self::Policy(_, policy) => policy.reads_images(),
        }
    }
}

fn policy_folder(text: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(text);
    if path.exists() || HubName::of(path).is_some() {
        return Ok(path.to_owned());
    }
    let hint = policies::hub_hint(path);
    Err(InputError(format!(
        "--policy is {text:?}; expected `scripted`, `random`, a policy's path or hf:OWNER/NAME{hint}"
    ))
    .into())
}
