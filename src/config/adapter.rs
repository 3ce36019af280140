//! What is trained and how it begins: the tables under `adapter`.

use eva_rl_agents::adapter::Rank;
use eva_rl_agents::eva::{Directions, Score, Settings, SolverKind, Stop};
use eva_rl_agents::methods::{
    AdaLora, CorDa, Ipa, LoraGa, LoraOne, Method, MiLora, Mode, Needs, OLora, PiSsa, PlainLora,
};
use eva_rl_agents::site::Token;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::Checks;

/// What is trained, and how it begins: `[adapter.eva]`, `[adapter.lora]`, ….
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AdapterConfig {
    /// No adapter: every weight of the policy is trained.
    FullFineTuning {},
    /// No adapter: the action head is trained.
    HeadOnly {},
    /// LoRA with a random start.
    Lora(LoraConfig),
    /// LoRA that starts from explained variance.
    Eva(EvaConfig),
    /// LoRA that starts as the weights' leading singular directions.
    Pissa(LoraConfig),
    /// LoRA that starts as the weights' trailing singular directions.
    Milora(LoraConfig),
    /// LoRA that starts from the weights' QR decomposition.
    Olora(LoraConfig),
    /// LoRA that starts from the weights as the task's inputs see them.
    Corda(CordaConfig),
    /// LoRA that starts along the gradient, and leaves the first output as it was.
    LoraGa(LoraGaConfig),
    /// LoRA that starts with a step along the gradient.
    LoraOne(LoraOneConfig),
    /// LoRA whose A is the inputs' principal directions, frozen or not.
    Ipa(IpaConfig),
    /// LoRA whose rank budget shrinks in training.
    Adalora(AdaloraConfig),
}

/// CorDA, arXiv 2406.05223.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CordaConfig {
    /// Size of the adapters.
    pub lora: LoraConfig,
    /// Batches of the data that it looks at.
    pub batches: usize,
    /// Whether the adapters take what the task's inputs use most, or what they use least.
    pub mode: Mode,
}

/// LoRA-GA, arXiv 2407.05000.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraGaConfig {
    /// Size of the adapters.
    pub lora: LoraConfig,
    /// Batches whose gradients are averaged.
    pub batches: usize,
    /// Stability of the start's scale; PEFT's default is 16.
    pub gamma: f64,
}

/// LoRA-One, arXiv 2502.01235.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraOneConfig {
    /// Size of the adapters.
    pub lora: LoraConfig,
    /// Batches whose gradients are averaged.
    pub batches: usize,
    /// What the first step is divided by.
    pub gamma: f64,
}

/// IPA, arXiv 2509.04398.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpaConfig {
    /// Size of the adapters.
    pub lora: LoraConfig,
    /// Batches of the data that it looks at.
    pub batches: usize,
    /// Whether A stays as it begins.
    pub frozen: bool,
}

/// AdaLoRA, arXiv 2303.10512. The budget shrinks from `lora.rank` to `target_rank` a site.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdaloraConfig {
    /// Size of the adapters at first.
    pub lora: LoraConfig,
    /// Mean rank of a site at the end.
    pub target_rank: Rank,
    /// Updates before the budget shrinks.
    pub warm_up: usize,
    /// Updates at the end during which ranks stay.
    pub last: usize,
    /// Updates between two sharings-out.
    pub every: usize,
    /// Smoothing of the sensitivity.
    pub beta1: f64,
    /// Smoothing of the uncertainty.
    pub beta2: f64,
    /// Weight of the orthogonality of A and B in the loss; PEFT's default is 0.5.
    pub orthogonality: f64,
}

impl AdapterConfig {
    /// The size of its adapters, if it has any.
    pub fn lora(&self) -> Option<&LoraConfig> {
        match self {
            Self::FullFineTuning {} | Self::HeadOnly {} => None,
            Self::Lora(lora) | Self::Pissa(lora) | Self::Milora(lora) | Self::Olora(lora) => Some(lora),
            Self::Eva(EvaConfig { lora, .. })
            | Self::Corda(CordaConfig { lora, .. })
            | Self::LoraGa(LoraGaConfig { lora, .. })
            | Self::LoraOne(LoraOneConfig { lora, .. })
            | Self::Ipa(IpaConfig { lora, .. })
            | Self::Adalora(AdaloraConfig { lora, .. }) => Some(lora),
        }
    }

    /// The method that places its adapters site by site, and the batches that it looks at; EVA is none of
    /// them, because it shares ranks out over sites.
    pub fn method(&self) -> Option<(Box<dyn Method>, usize)> {
        Some(match self {
            Self::FullFineTuning {} | Self::HeadOnly {} | Self::Eva(_) => return None,
            Self::Lora(_) => (Box::new(PlainLora), 0),
            Self::Pissa(_) => (Box::new(PiSsa), 0),
            Self::Milora(_) => (Box::new(MiLora), 0),
            Self::Olora(_) => (Box::new(OLora), 0),
            Self::Corda(corda) => (Box::new(CorDa { mode: corda.mode }), corda.batches),
            Self::LoraGa(ga) => (Box::new(LoraGa { gamma: ga.gamma }), ga.batches),
            Self::LoraOne(one) => (Box::new(LoraOne { gamma: one.gamma }), one.batches),
            Self::Ipa(ipa) => (Box::new(Ipa { frozen: ipa.frozen }), ipa.batches),
            Self::Adalora(_) => (Box::new(AdaLora), 0),
        })
    }

    /// The kinds of tokens that EVA is told to count; none where all count.
    pub fn tokens(&self) -> &[Token] {
        match self {
            Self::Eva(eva) => &eva.tokens,
            _ => &[],
        }
    }

    /// The key of a size of the adapters.
    fn lora_key(&self, name: &str) -> String {
        match self {
            Self::Lora(_) | Self::Pissa(_) | Self::Milora(_) | Self::Olora(_) => self.key(name),
            _ => self.key(&format!("lora.{name}")),
        }
    }

    /// A key of this table, whole.
    fn key(&self, name: &str) -> String {
        let table = match self {
            Self::FullFineTuning {} => "full_fine_tuning",
            Self::HeadOnly {} => "head_only",
            Self::Lora(_) => "lora",
            Self::Eva(_) => "eva",
            Self::Pissa(_) => "pissa",
            Self::Milora(_) => "milora",
            Self::Olora(_) => "olora",
            Self::Corda(_) => "corda",
            Self::LoraGa(_) => "lora_ga",
            Self::LoraOne(_) => "lora_one",
            Self::Ipa(_) => "ipa",
            Self::Adalora(_) => "adalora",
        };
        format!("adapter.{table}.{name}")
    }

    /// Checks what types cannot, for a run of `total_updates` on batches of `batch_size` windows.
    pub(super) fn check(&self, batch_size: usize, total_updates: usize, checks: &mut Checks) {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if let Some(lora) = self.lora() {
            checks.value(self.lora_key("alpha"), lora.alpha, positive(lora.alpha), "must be positive");
            let fits = (0.0..1.0).contains(&lora.dropout);
            checks.value(self.lora_key("dropout"), lora.dropout, fits, "must lie in [0, 1)");
        }
        match self {
            Self::Eva(eva) => {
                let fits = (1.0..=1000.0).contains(&eva.rho);
                checks.value(self.key("rho"), eva.rho, fits, "must lie in [1, 1000]");
                checks.value(self.key("tau"), eva.tau, 0.0 < eva.tau && eva.tau <= 1.0, "must lie in (0, 1]");
                checks.value(
                    self.key("max_batches"),
                    eva.max_batches,
                    eva.max_batches >= 1,
                    "must be at least 1",
                );
                if let Err(error) = eva.settings().check() {
                    checks.refuse("adapter.eva", format!("`adapter.eva`: {error}"));
                }
                // A window has at least one real step, of which each kind of token that counts is one; a policy
                // reads three kinds or more.
                let components = (eva.rho * eva.lora.rank.get() as f64).round() as usize;
                let tokens = if eva.tokens.is_empty() { 3 } else { eva.tokens.len() };
                let windows = batch_size.saturating_mul(eva.max_batches);
                let wanted = "must give a token for each of rho · rank components, at as many a window as `tokens` has kinds (3 where it is absent)";
                let fits = windows.saturating_mul(tokens) >= components;
                checks.relation(self.key("max_batches · optimiser.batch_size"), windows, fits, wanted);
            }
            Self::LoraGa(LoraGaConfig { gamma, .. }) | Self::LoraOne(LoraOneConfig { gamma, .. }) => {
                checks.value(self.key("gamma"), gamma, positive(*gamma), "must be positive");
            }
            Self::Adalora(ada) => {
                let (target, rank) = (ada.target_rank.get(), ada.lora.rank.get());
                checks.relation(self.key("target_rank"), target, target <= rank, "must be at most lora.rank");
                checks.value(self.key("every"), ada.every, ada.every >= 1, "must be at least 1");
                for (key, beta) in [(self.key("beta1"), ada.beta1), (self.key("beta2"), ada.beta2)] {
                    checks.value(key, beta, 0.0 < beta && beta < 1.0, "must lie in (0, 1)");
                }
                let weight = ada.orthogonality;
                let fits = weight.is_finite() && weight >= 0.0;
                checks.value(self.key("orthogonality"), weight, fits, "must not be negative");
                let (fixed, total) = (ada.warm_up.saturating_add(ada.last), total_updates);
                let wanted = "must be below the run's updates, or ranks never shrink";
                checks.relation(self.key("warm_up + last"), fixed, fixed < total, wanted);
            }
            _ => {}
        }
        if let Some((method, batches)) = self.method() {
            let fits = method.needs() == Needs::Nothing || batches >= 1;
            checks.value(self.key("batches"), batches, fits, "must be at least 1");
        }
    }

    /// The method's name and size, for reports.
    pub fn label(&self) -> String {
        let name = match self {
            Self::FullFineTuning {} => return "full fine-tuning".to_owned(),
            Self::HeadOnly {} => return "head only".to_owned(),
            Self::Lora(_) => "LoRA",
            Self::Eva(EvaConfig { directions, .. }) => match directions {
                Directions::Leading => "EVA",
                Directions::Rotated => "EVA-rot",
                Directions::Permuted => "EVA-perm",
                Directions::Trailing => "EVA-minor",
                Directions::Random => "LoRA with EVA's ranks",
            },
            Self::Pissa(_) => "PiSSA",
            Self::Milora(_) => "MiLoRA",
            Self::Olora(_) => "OLoRA",
            Self::Corda(_) => "CorDA",
            Self::LoraGa(_) => "LoRA-GA",
            Self::LoraOne(_) => "LoRA-One",
            Self::Ipa(IpaConfig { frozen: true, .. }) => "IPA, A frozen",
            Self::Ipa(_) => "IPA",
            Self::Adalora(_) => "AdaLoRA",
        };
        let lora = self.lora().expect("the others have adapters");
        let mut label = name.to_owned();
        if lora.dora {
            label += " + DoRA";
        }
        if lora.rslora {
            label += ", rsLoRA";
        }
        label += &format!(", rank {}", lora.rank.get());
        match self {
            Self::Adalora(ada) => label + &format!(" to {}", ada.target_rank.get()),
            _ => label,
        }
    }
}

/// Size of the adapters.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of every site, or their mean where EVA shares ranks out.
    pub rank: Rank,
    /// The adapters' scale is `alpha / rank`, or `alpha / √rank` under rsLoRA.
    pub alpha: f64,
    /// Probability that an adapter's input is zeroed in training.
    pub dropout: f64,
    /// Whether the scale is rsLoRA's.
    #[serde(default)]
    pub rslora: bool,
    /// Whether a magnitude a row is trained too, as in DoRA.
    #[serde(default)]
    pub dora: bool,
}

/// How EVA spends its rank budget, and when it stops looking at data.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaConfig {
    /// Size of the adapters.
    pub lora: LoraConfig,
    /// A site's rank may grow to `rho` times `lora.rank`; 1.0 keeps every site equal.
    pub rho: f64,
    /// The cosine at which directions count as settled, by the rule of `stop`.
    pub tau: f64,
    /// Stop after this many batches, settled or not.
    pub max_batches: usize,
    /// When data suffices.
    #[serde(default = "usual_stop")]
    pub stop: Stop,
    /// How directions are found.
    #[serde(default = "usual_solver")]
    pub solver: SolverKind,
    /// Whether activations are centred.
    #[serde(default = "yes")]
    pub centred: bool,
    /// What ranks are shared out by.
    #[serde(default = "usual_score")]
    pub score: Score,
    /// Which directions A gets; all but `leading` are controls.
    #[serde(default = "usual_directions")]
    pub directions: Directions,
    /// Whether each row of A is divided by the root of its singular value.
    #[serde(default)]
    pub whiten: bool,
    /// Kinds of tokens whose activations count; all where empty.
    #[serde(default)]
    pub tokens: Vec<Token>,
}

fn usual_stop() -> Stop {
    Stop::Halves
}

fn usual_solver() -> SolverKind {
    SolverKind::Auto
}

fn usual_score() -> Score {
    Score::Ratio
}

fn usual_directions() -> Directions {
    Directions::Leading
}

fn yes() -> bool {
    true
}

impl EvaConfig {
    /// What EVA's search takes of it.
    pub fn settings(&self) -> Settings {
        Settings {
            rank: self.lora.rank,
            rho: self.rho,
            solver: self.solver,
            centred: self.centred,
            score: self.score,
            stop: self.stop,
            tau: self.tau,
            directions: self.directions,
            whiten: self.whiten,
        }
    }
}
