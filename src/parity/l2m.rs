//! Cases of L2M and LRAM.

use std::path::Path;

use eva_rl_agents::loss::behaviour_cloning;
use eva_rl_agents::model::heads::bins::Bins;
use eva_rl_agents::model::{
    ActionKind, ForwardContext, Given, Inputs, Policy, Spaces, Token, TransformerPolicy, heads,
};
use eva_rl_envs::ActionSpace;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::case::{Case, Tolerance};
use super::episode::new_episode;
use crate::policies;
use crate::rollout::{ActionSelection, Inference, PolicyActor};
use crate::support::errors::{InputError, OrInput};

/// Of all arrays.
const TOLERANCE: Tolerance = Tolerance { absolute: 2e-5, relative: 0.0 };

/// Plays the folder's cases, of which each begins with the name of its family.
pub fn play(folder: &Path, meta: &Value) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    let names = meta["cases"].as_object().into_iter().flat_map(|cases| cases.keys());
    // What numbers become as tokens is no case of its own there.
    let tokens = ["l2m_tokens", "lram_tokens"].map(str::to_owned);
    let tokens = tokens.iter().filter(|name| meta["arrays"].get(name.as_str()).is_some());
    for name in names.chain(tokens) {
        let mut case = Case::open(folder, name, TOLERANCE)?;
        let Some((family, what)) = name.split_once('_') else {
            return Err(InputError(format!("in {folder:?}, the case {name:?} names no family")).into());
        };
        let visible = what.ends_with("padding_visible");
        let policy = Subject { folder, family, meta, visible };
        match what {
            "tokens" => as_tokens(&policy, &mut case)?,
            "image" => image(&policy, &mut case)?,
            what if what.starts_with("env") => forward(&policy, &mut case)?,
            what if what.starts_with("rollout") => rollout(&policy, &mut case)?,
            _ => {
                let text =
                    format!("in {folder:?}, the case is {name:?}, expected env…, rollout…, image or tokens");
                return Err(InputError(text).into());
            }
        }
        cases.push(case.finish()?);
    }
    Ok(cases)
}

/// A policy of the folder.
struct Subject<'a> {
    folder: &'a Path,
    family: &'a str,
    meta: &'a Value,
    /// Whether its tokens see padding.
    visible: bool,
}

impl Subject<'_> {
    /// Its weights, beside which a config says what no tensor does.
    fn read(&self, spaces: &Spaces) -> anyhow::Result<TransformerPolicy> {
        let beside = tempfile::tempdir()?;
        let variant = &self.meta["variant"];
        let config = json!({
            "model_type": self.family,
            "n_head": variant["heads"],
            "act_dim": variant["act"],
            "action_channels": variant["bins"],
            "discrete_actions": variant["disc"],
            "max_length": variant[if self.family == "lram" { "lram_ctx" } else { "ctx" }],
            "global_pos_embds": self.family == "lram" && variant["lram_pos"] == true,
            "use_fast_attn": self.visible,
        });
        std::fs::write(beside.path().join("config.json"), config.to_string())?;
        let weights = self.folder.join(format!("{}.pth", self.family));
        std::fs::copy(&weights, beside.path().join("model.pth"))
            .map_err(|error| InputError(format!("cannot read {weights:?}: {error}")))?;
        let policy = policies::read_transformer(beside.path(), Given::default(), Device::Cpu)?;
        policy.fitted(spaces).or_input()
    }

    /// The same for actions of so many numbers, and as wide states as it reads.
    fn of_numbers(&self, numbers: i64, act_dim: i64) -> anyhow::Result<TransformerPolicy> {
        self.read(&Spaces {
            numbers,
            ids: false,
            grid: None,
            image: None,
            action_kind: ActionKind::Continuous,
            act_dim,
        })
    }

    /// Numbers of the widest action, k.
    fn widest(&self) -> i64 {
        self.meta["variant"]["act"].as_i64().unwrap_or(1)
    }
}

/// Numbers as tokens, and what tokens stand for.
fn as_tokens(subject: &Subject, case: &mut Case) -> anyhow::Result<()> {
    let policy = subject.of_numbers(1, 1)?;
    let bins = Bins::of(policy.config());
    let ids = bins.nearest(&case.array("in.values")?);
    case.compare("out.tokens", &ids)?;
    case.compare("out.decoded", &bins.number(&ids))?;
    let all = Tensor::arange(bins.ids(), (Kind::Int64, Device::Cpu)).unsqueeze(0);
    case.compare("out.decoded_all", &bins.number(&all))
}

/// Windows as the policy reads them; actions of `act_dim` numbers, or one-hot.
fn inputs(case: &Case, act_dim: i64, images: Option<Tensor>) -> anyhow::Result<Inputs> {
    let mask = case.array("in.attention_mask")?.to_kind(Kind::Bool); // [B, T]
    let (batch, steps) = mask.size2().or_input()?;
    let actions = case.array("in.actions")?;
    let actions = match actions.is_floating_point() {
        true => actions.narrow(2, 0, act_dim),
        false => actions.squeeze_dim(-1).one_hot(act_dim).to_kind(Kind::Float),
    };
    let states = match images {
        None => case.array("in.states")?,
        Some(_) => Tensor::zeros([batch, steps, 0], (Kind::Float, Device::Cpu)),
    };
    Ok(Inputs {
        states,
        words: None,
        images,
        previous: None,
        actions,
        rewards: Some(case.array("in.rewards")?),
        returns_to_go: case.array("in.returns_to_go")?,
        timesteps: case.array("in.timesteps")?,
        mask,
    })
}

/// Windows as they are trained on, padded on the left.
fn forward(subject: &Subject, case: &mut Case) -> anyhow::Result<()> {
    let _guard = tch::no_grad_guard();
    let numbers = case.array("in.states")?.size()[2];
    let bare = &mut ForwardContext::bare();
    // All dimensions first, those that the environment lacks among them.
    let widest = subject.of_numbers(numbers, subject.widest())?;
    let whole = inputs(case, subject.widest(), None)?;
    let real = whole.mask.to_kind(Kind::Float).unsqueeze(-1); // [B, T, 1]
    let found = widest.forward(bare, &whole);
    let logits = found.action_logits.expect("actions are binned");
    case.compare("out.action_logits", &(logits * real.unsqueeze(-1)))?;
    case.compare("out.action_preds", &(found.actions * &real))?;
    case.compare("out.target_tokens", &Bins::of(widest.config()).nearest(&whole.actions))?;
    let (batch, steps) = whole.mask.size2().or_input()?;
    let hidden = widest.encode(bare, &whole).view([batch, steps, widest.tokens().count() as i64, -1]);
    case.compare("out.hidden", &(hidden * real.unsqueeze(-1)))?;
    let act_dim = case.array("in.action_mask")?.sum(Kind::Int64).int64_value(&[]);
    let policy = subject.of_numbers(numbers, act_dim)?;
    case.compare("out.loss", &behaviour_cloning(&policy, bare, &inputs(case, act_dim, None)?).view([1]))
}

/// Images and discrete actions.
fn image(subject: &Subject, case: &mut Case) -> anyhow::Result<()> {
    let _guard = tch::no_grad_guard();
    let images = case.array("in.states_uint8")?; // [B, T, C, H, W]
    let [_, _, channels, height, width] = *images.size() else {
        return Err(InputError("`in.states_uint8` are no images".to_owned()).into());
    };
    let act_dim = subject.meta["variant"]["disc"].as_i64().unwrap_or(0);
    let policy = subject.read(&Spaces {
        grid: None,
        numbers: 0,
        ids: false,
        image: Some([channels, height, width]),
        action_kind: ActionKind::Discrete,
        act_dim,
    })?;
    let inputs = inputs(case, act_dim, Some(images))?;
    let bare = &mut ForwardContext::bare();
    case.compare("out.image_embedding", &policy.embed(bare, &inputs, Token::State).flatten(0, 1))?;
    let encoded = policy.encode_for_actions(bare, &inputs); // [B, T, D]
    let all = case.array("out.action_logits")?.size()[3];
    let logits = policy.whole_action_head(bare, &encoded).narrow(-1, 0, all); // those of one dimension
    case.compare("out.action_logits", &logits.unsqueeze(2))?;
    let head = policy.action_head(bare, &encoded).flatten(0, 1);
    let chosen = heads::mode(policy.config(), &head); // [B·T, 1]
    case.compare("out.action_preds", &chosen.view_as(&case.array("out.action_preds")?))
}

/// An episode, acted step by step; the environment is the case's.
fn rollout(subject: &Subject, case: &mut Case) -> anyhow::Result<()> {
    let numbers_of = |name: &str| -> anyhow::Result<Vec<f32>> {
        Vec::try_from(case.array(name)?.to_kind(Kind::Float).flatten(0, -1)).or_input()
    };
    let observations = case.array("in.observation")?;
    let (numbers, act_dim) = (observations.size()[1], case.array("out.action")?.size()[1]);
    // Where all dimensions are read at once, the reference tells those that the environment lacks too.
    let told = case.array("out.logits")?.size()[1];
    let mut policy = subject.of_numbers(numbers, told)?;
    let one = |name: &str| anyhow::Ok(numbers_of(name)?.first().copied().unwrap_or(1.0));
    let scale = one("in.reward_scale")?;
    policy.config_mut().return_scale = Some(scale);
    let target = one("in.target_return")? * scale;
    let conditioning = policies::conditioning(policy.config(), Device::Cpu, subject.folder, Some(target))?;
    let ids = Bins::of(policy.config()).ids();
    let space = ActionSpace::Box { low: vec![-1.0; told as usize], high: vec![1.0; told as usize] };
    let policy = Policy::Transformer(policy);
    let choice = ActionSelection::Greedy(&policy);
    let PolicyActor::Transformer(mut actor) =
        PolicyActor::new(choice, &conditioning, target, &space, Inference::Reference)
    else {
        unreachable!("it is a transformer");
    };
    let (mut actions, mut logits, mut returns) = (Vec::new(), Vec::new(), Vec::new());
    let mut episode = new_episode(0, None);
    for (step, reward) in numbers_of("in.reward")?.into_iter().enumerate() {
        let shown = Vec::<f32>::try_from(observations.get(step as i64)).or_input()?;
        episode.trajectory.observations.to_mut().extend_from_slice(&shown);
        let read = actor.windows_of.whole_windows(std::slice::from_ref(&episode));
        returns.push(read.returns_to_go.view(-1).get(-1));
        let mut action = vec![0.0; told as usize];
        logits.push(actor.act_and_tell(std::slice::from_mut(&mut episode), &mut action)?);
        actions.extend_from_slice(&action);
        let trajectory = &mut episode.trajectory;
        trajectory.actions.to_mut().extend_from_slice(&action);
        trajectory.rewards.push(reward);
        episode.earned.push(episode.earned.last().copied().unwrap_or(0.0) + reward);
    }
    let logits = Tensor::cat(&logits, 0).view([-1, told, ids]);
    case.compare("out.logits", &logits)?;
    case.compare("out.tokens", &logits.narrow(1, 0, act_dim).argmax(-1, false))?;
    case.compare("out.action", &Tensor::from_slice(&actions).view([-1, told]).narrow(1, 0, act_dim))?;
    case.compare("rtg", &Tensor::stack(&returns, 0))
}
