//! The README.md of a repository of the Hub: front matter that the Hub knows, and a run's model card.

use std::path::{Path, PathBuf};

use super::model_card::{IN_PYTHON, in_python};
use crate::hub::HubName;

/// What is uploaded.
#[derive(Clone, Debug)]
pub struct Shared<'a> {
    /// Where it goes.
    pub name: &'a HubName,
    /// Of an adapter, the policy that it adapts, as PEFT names it; nothing of a whole policy.
    pub base: Option<&'a str>,
    /// The revision of a base of the Hub.
    pub revision: Option<&'a str>,
    /// The environment that a run was of.
    pub env: Option<&'a str>,
    /// Whether transformers has a model for the policy, as far as is known.
    pub in_transformers: bool,
}

impl Shared<'_> {
    /// The base as a name of the Hub, where it is on it.
    fn base_on_hub(&self) -> Option<HubName> {
        let base = self.base?;
        let text = if base.starts_with("hf:") { base.to_owned() } else { format!("hf:{base}") };
        let name = HubName::of(Path::new(&text))?.ok()?;
        Some(HubName { revision: self.revision.map(str::to_owned).or(name.revision.clone()), ..name })
    }

    /// The lines between `---` at the file's start, in YAML; JSON's texts are texts of YAML.
    fn front_matter(&self) -> String {
        let quoted = |text: &str| serde_json::to_string(text).expect("a text can be written as JSON");
        let library = match (self.base, self.in_transformers) {
            (Some(_), _) => "peft",
            (None, true) => "transformers",
            (None, false) => "eva-rl",
        };
        let mut text = format!("---\nlibrary_name: {library}\npipeline_tag: reinforcement-learning\n");
        if let Some(base) = self.base_on_hub() {
            text += &format!("base_model: {}\nbase_model_relation: adapter\n", quoted(&base.repo));
        }
        text += "tags:\n- reinforcement-learning\n- decision-transformer\n- eva-rl\n";
        for tag in self.base.map(|_| "lora").into_iter().chain(self.env) {
            text += &format!("- {}\n", quoted(tag));
        }
        text + "---\n"
    }

    /// How the program and Python load it from the Hub.
    fn usage(&self) -> String {
        let (name, env) = (self.name.to_path(), self.env.unwrap_or("ID"));
        let mut text = format!("\nPlay it:\n\n```sh\neva-rl evaluate {} --env {env}\n```\n", name.display());
        let base = self.base_on_hub().map(|base| base.to_path());
        match (self.base, &base) {
            (Some(local), None) => {
                text += &format!(
                    "\nThe policy that it adapts is `{local}`, a folder of its author's, which is not on the Hub.\n"
                );
            }
            (_, base) if self.in_transformers => text += &in_python(base.as_deref(), &name),
            _ => {}
        }
        text
    }
}

/// The card of what a run has trained: the run's own, whose paths are the author's, with names of the Hub instead.
pub fn of_run(shared: &Shared, card: &str, config: &str) -> String {
    let own = card.split(IN_PYTHON).next().unwrap_or_default();
    let own = own.replace("The config is `config.toml`.", "The config is at the end.");
    let shared = Shared { in_transformers: card.contains(IN_PYTHON), ..shared.clone() };
    let usage = shared.usage();
    let states = if shared.in_transformers {
        "\nStates go in normalised and returns scaled, by `state_mean`, `state_std` and `return_scale` of the policy's `config.json`.\n"
    } else {
        ""
    };
    format!(
        "{}\n{own}{usage}{states}\nThe config:\n\n```toml\n{}\n```\n",
        shared.front_matter(),
        config.trim_end()
    )
}

/// The card of a policy or an adapter that has no run's: its own, or a short one.
pub fn of_folder(shared: &Shared, own: Option<&str>) -> String {
    match own {
        Some(own) if own.starts_with("---") => own.to_owned(),
        Some(own) => format!("{}\n{own}", shared.front_matter()),
        None => {
            let what = if shared.base.is_some() {
                "An adapter of a decision transformer"
            } else {
                "A decision transformer"
            };
            format!(
                "{}\n# {}\n\n{what}, uploaded by `eva-rl push`.\n{}",
                shared.front_matter(),
                shared.name.repo,
                shared.usage()
            )
        }
    }
}

/// Videos that a run's card names.
pub fn videos(run: &Path) -> Vec<PathBuf> {
    ["before.gif", "after.gif"].map(|name| run.join(name)).into_iter().filter(|path| path.is_file()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HubName {
        HubName::of(Path::new(text)).unwrap().unwrap()
    }

    #[test]
    fn a_base_of_the_hub_is_named_to_the_hub_and_to_python() {
        let name = name("hf:me/adapter");
        let shared = Shared {
            name: &name,
            base: Some("you/base"),
            revision: Some("abc"),
            env: Some("Hopper-v5"),
            in_transformers: true,
        };
        let card = of_run(
            &shared,
            &format!("# run\n\nThe config is `config.toml`.\n{IN_PYTHON}local paths"),
            "seed = 1\n",
        );
        assert!(card.starts_with("---\nlibrary_name: peft\n"), "{card}");
        assert!(
            card.contains("\nbase_model: \"you/base\"\n") && card.contains("\n- \"Hopper-v5\"\n"),
            "{card}"
        );
        assert!(card.contains("from_pretrained(\"you/base\", revision=\"abc\")"), "{card}");
        assert!(card.contains("PeftModel.from_pretrained(base, \"me/adapter\")"), "{card}");
        assert!(!card.contains("local paths") && card.ends_with("```toml\nseed = 1\n```\n"), "{card}");
    }

    #[test]
    fn a_base_that_is_a_folder_is_not_called_a_model_of_the_hub() {
        let name = name("hf:me/adapter");
        let shared =
            Shared { name: &name, base: Some("pendulum"), revision: None, env: None, in_transformers: true };
        let card = of_folder(&shared, None);
        assert!(
            !card.contains("base_model:") && card.contains("`pendulum`, a folder of its author's"),
            "{card}"
        );
        assert_eq!(of_folder(&shared, Some("---\nmine: 1\n---\n")), "---\nmine: 1\n---\n");
    }
}
