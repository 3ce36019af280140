//! The statistics of a policy taken from datasets.

use std::path::{Path, PathBuf};

use anyhow::Context;
use eva_rl_agents::model::{self, ActionKind, PolicyConfig, Statistics, StatisticsSource, Token};
use eva_rl_envs::ActionSpace;

use super::reading::{Shown, check_shown};
use crate::data::{Dataset, greatest_return, observation_moments};
use crate::support::errors::{InputError, tell};

/// Steps that a decision transformer looks back on where neither its files nor the data say (arXiv 2106.01345,
/// table 9).
const CONTEXT_LENGTH: i64 = 20;

/// Puts the statistics of `datasets`, which are called `whose`, over those of `config`, and says which.
pub fn take_statistics_of(
    config: &mut PolicyConfig,
    datasets: &[Dataset],
    whose: &str,
) -> anyhow::Result<()> {
    check_shown(config, Shown::in_data(&datasets[0]), whose)?;
    let found = statistics_of(config, datasets);
    if found == Statistics::default() {
        let text = "the statistics are \"data\", and the policy takes observations as they are and is told no return, expected none";
        return Err(InputError(text.to_owned()).into());
    }
    tell(&format!("statistics of {whose}: {}", said(&found)));
    config.take_statistics(found, StatisticsSource::Data(whose.to_owned()));
    model::check_config(config)
        .map_err(|bad| InputError(format!("the policy cannot take the statistics of {whose}: {bad}")).into())
}

/// The file of statistics beside an adapter, whose policy has none of its own.
const FILE: &str = "statistics.json";

/// Writes the statistics that the policy of an adapter took from data, if it did, beside the adapter in `folder`.
pub fn write_statistics(config: &PolicyConfig, folder: &Path) -> anyhow::Result<()> {
    if let StatisticsSource::Data(_) = config.statistics_from {
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(&config.statistics())? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write {path:?}"))?;
    }
    Ok(())
}

/// Where [`write_statistics`] has put them beside an adapter.
pub fn statistics_beside(adapter: &Path) -> Option<PathBuf> {
    Some(adapter.join(FILE)).filter(|path| path.is_file())
}

/// What the datasets say of what the policy of `config` reads, and what acting needs and nobody says.
fn statistics_of(config: &PolicyConfig, datasets: &[Dataset]) -> Statistics {
    let normalises = config.numbers() > 0 && (!config.raw_states || config.state_mean.is_some());
    let (mean, std) = match normalises {
        true => {
            let (mean, std) = observation_moments(datasets);
            (Some(mean), Some(std))
        }
        false => (None, None),
    };
    let told = config.reads(Token::Return).then(|| greatest_return(datasets));
    let greatest = || {
        let returns = datasets.iter().flat_map(|dataset| &dataset.trajectories);
        returns.map(|trajectory| trajectory.total_return().abs() as f32).fold(0.0, f32::max)
    };
    // A scale of 0 would divide by it: without rewards, every scale is the same.
    let scale =
        config.return_scale.is_none().then(|| Some(greatest()).filter(|scale| *scale > 0.0).unwrap_or(1.0));
    let bounds = match &datasets[0].action {
        ActionSpace::Box { low, high }
            if config.action_kind != ActionKind::Discrete
                && !config.raw_actions
                && config.action_low.is_none()
                && config.action_high.is_none()
                && low.iter().chain(high).all(|bound| bound.is_finite()) =>
        {
            Some((low.clone(), high.clone()))
        }
        _ => None,
    };
    let (action_low, action_high) = bounds.unzip();
    Statistics {
        context_length: config.context_length.is_none().then_some(CONTEXT_LENGTH),
        state_mean: mean,
        state_std: std,
        return_scale: scale,
        target_return: told,
        max_return_to_go: told.and(datasets.iter().filter_map(Dataset::max_return_to_go).reduce(f32::max)),
        action_low,
        action_high,
    }
}

/// Statistics in words.
fn said(found: &Statistics) -> String {
    let numbers = [
        ("target_return", found.target_return),
        ("max_return_to_go", found.max_return_to_go),
        ("return_scale", found.return_scale),
        ("context_length", found.context_length.map(|steps| steps as f32)),
    ];
    let numbers = numbers.into_iter().filter_map(|(key, value)| Some(format!("{key} {}", value?)));
    let lists = [
        ("state_mean", &found.state_mean),
        ("state_std", &found.state_std),
        ("action_low", &found.action_low),
        ("action_high", &found.action_high),
    ];
    let lists = lists.into_iter().filter(|(_, list)| list.is_some()).map(|(key, _)| key.to_owned());
    lists.chain(numbers).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing;

    fn dataset(rewards: &[&[f32]]) -> Dataset {
        let trajectories = rewards.iter().map(|rewards| {
            let observations = (0..=rewards.len()).map(|step| step as f32).collect();
            testing::trajectory(observations, vec![0.0; rewards.len()], rewards)
        });
        testing::dataset(1, ActionSpace::Box { low: vec![-2.0], high: vec![2.0] }, trajectories.collect())
    }

    fn without_statistics() -> PolicyConfig {
        PolicyConfig { state_dim: 1, act_dim: 1, ..PolicyConfig::default() }
    }

    #[test]
    fn a_policy_without_statistics_takes_all_from_the_data() {
        let mut config = without_statistics();
        // Returns −5 and −2; the greatest return-to-go is 1, of the first episode's last step.
        take_statistics_of(&mut config, &[dataset(&[&[-6.0, 1.0], &[-1.0, -1.0]])], "the data").unwrap();
        assert_eq!(config.state_mean, Some(vec![0.5]));
        assert_eq!(config.state_std, Some(vec![0.5]));
        assert_eq!((config.target_return, config.max_return_to_go), (Some(-2.0), Some(1.0)));
        assert_eq!((config.return_scale, config.context_length), (Some(5.0), Some(20)));
        assert_eq!((config.action_low, config.action_high), (Some(vec![-2.0]), Some(vec![2.0])));
    }

    #[test]
    fn what_its_weights_were_trained_with_stays() {
        let mut config = PolicyConfig {
            return_scale: Some(1000.0),
            context_length: Some(8),
            action_low: Some(vec![-1.0]),
            action_high: Some(vec![1.0]),
            target_return: Some(3600.0),
            ..without_statistics()
        };
        take_statistics_of(&mut config, &[dataset(&[&[1.0, 1.0]])], "the data").unwrap();
        assert_eq!((config.return_scale, config.context_length), (Some(1000.0), Some(8)));
        assert_eq!((config.action_low, config.target_return), (Some(vec![-1.0]), Some(2.0)));
    }

    #[test]
    fn a_scale_is_never_zero() {
        let mut config = without_statistics();
        take_statistics_of(&mut config, &[dataset(&[&[0.0, 0.0]])], "the data").unwrap();
        assert_eq!(config.return_scale, Some(1.0));
    }
}
