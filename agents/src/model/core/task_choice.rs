//! Which of its tasks a policy plays.

use super::bad_field::BadField;
use super::config::PolicyConfig;
use super::tasks::{LEAST_STD, Task};

impl PolicyConfig {
    /// The config for one of its tasks: that of this name, or else the one that `task` says, or the only one there
    /// is. Where none is named among several, it has the widths of the first and no `task`.
    pub(in crate::model) fn for_task(mut self, name: Option<&str>) -> Result<Self, BadField> {
        let wanted = name.map(str::to_owned).or_else(|| self.task.take());
        let only = (self.tasks.len() == 1).then(|| self.tasks.keys().next()).flatten();
        let chosen = wanted.or_else(|| only.cloned());
        let Some(first) = self.tasks.keys().next() else {
            return match chosen {
                None => Ok(self),
                Some(name) => Err(BadField {
                    key: "task".into(),
                    found: format!("{name:?}"),
                    wanted: "none: the policy plays one task, which has no name".to_owned(),
                }),
            };
        };
        let Some(task) = self.tasks.get(chosen.as_ref().unwrap_or(first)) else {
            let found = format!("{:?}", chosen.unwrap_or_default());
            return Err(BadField { key: "task".into(), found, wanted: self.known_tasks() });
        };
        self.state_dim = task.observation_width();
        self.act_dim = task.action_dim;
        self.state_mean = Some(task.obs_mean.clone());
        self.state_std = Some(task.obs_std.iter().map(|std| std + LEAST_STD).collect());
        self.return_scale = Some(task.reward_scale.recip());
        self.task = chosen;
        Ok(self)
    }

    /// The task that is played, if the policy has several and one is named.
    pub fn chosen_task(&self) -> Option<&Task> {
        self.tasks.get(self.task.as_ref()?)
    }

    /// The group of the task that is played, or of the first.
    pub(in crate::model) fn group(&self) -> &str {
        let task = self.chosen_task().or_else(|| self.tasks.values().next());
        task.map_or("", |task| task.group_name.as_str())
    }

    /// Its tasks in words.
    pub fn known_tasks(&self) -> String {
        const SHOWN: usize = 12;
        let names: Vec<String> = self.tasks.keys().take(SHOWN).map(|name| format!("\"{name}\"")).collect();
        let more = self.tasks.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" or {more} more (`inspect` lists them)") } else { String::new() };
        format!("one of {}{more}", names.join(", "))
    }
}
