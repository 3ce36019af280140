//! Writes a run's numbers to its TensorBoard event file and to `metrics.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use eva_rl_agents::adapter::site::ModuleName;
use eva_rl_agents::adapter_init::eva::SiteReport;
use protobuf::Message;
use serde::{Deserialize, Serialize};
use tensorboard_proto::plugin_hparams::{HParamsPluginData, SessionStartInfo};
use tensorboard_proto::summary::{Summary, Summary_Image, Summary_Value};

use super::events::{EventFile, PREFIX};
use super::summaries::{flatten, histogram, plugin, restart, scalar, summary, text};
use super::{
    CONFIG, EVA_COMPONENTS, EVA_CONVERGED, EVA_EXPLAINED_VARIANCE, EVA_MODULES, EVA_RANK, EVA_RANKS,
    EVAL_VIDEO, Metric,
};
use crate::evaluation::video::Video;
use crate::run_folder::RunState;
use crate::support::atomic::write_file;
use crate::support::tables;

const FILE: &str = "metrics.jsonl";

/// The folder in a run's of the events whose axis is environment steps; TensorBoard shows it as a second run with
/// the same tags.
const ENV_STEPS: &str = "env_steps";

/// Where a number stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Updates done.
    pub updates: usize,
    /// Environment steps of exploration so far; none in a run that never explores.
    pub env_steps: Option<usize>,
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Updates done, or EVA's batches for its own tags.
    pub step: usize,
    /// TensorBoard's name.
    pub tag: String,
    /// The number; null where it was not finite.
    pub value: Option<f64>,
    /// Seconds since the run, or its resumed part, began.
    pub wall_secs: f64,
    /// Environment steps of exploration so far, of what episodes came to in a run that explores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_steps: Option<usize>,
}

/// Writes the numbers of one run.
pub struct Recorder {
    run: PathBuf,
    events: EventFile,
    /// The same over environment steps, once there is something.
    by_env_steps: Option<EventFile>,
    lines: BufWriter<File>,
    started: Instant,
}

impl Recorder {
    /// Writes into a run folder that exists.
    pub fn create(run: &Path) -> anyhow::Result<Self> {
        let path = run.join(FILE);
        let lines = OpenOptions::new().create(true).append(true).open(&path);
        let lines = lines.with_context(|| format!("cannot write {path:?}"))?;
        let (events, lines) = (EventFile::create(run)?, BufWriter::new(lines));
        Ok(Self { run: run.to_owned(), events, by_env_steps: None, lines, started: Instant::now() })
    }

    /// Of a rank that does not write: keeps nothing.
    pub fn silent(run: &Path) -> anyhow::Result<Self> {
        let lines = File::options().write(true).open("/dev/null").context("cannot write /dev/null")?;
        let (events, by_env_steps) = (EventFile::nowhere()?, Some(EventFile::nowhere()?));
        let lines = BufWriter::new(lines);
        Ok(Self { run: run.to_owned(), events, by_env_steps, lines, started: Instant::now() })
    }

    /// Starts a run again that was killed before its first checkpoint: what it wrote is forgotten.
    pub fn start_again(run: &Path) -> anyhow::Result<Self> {
        let by_env_steps = run.join(ENV_STEPS);
        for folder in [run, &by_env_steps].into_iter().filter(|folder| folder.is_dir()) {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name == FILE || name.starts_with(PREFIX) {
                    fs::remove_file(&path).with_context(|| format!("cannot remove {path:?}"))?;
                }
            }
        }
        Self::create(run)
    }

    /// Goes on after a stop: what was written past the checkpoint of `state` is forgotten.
    pub fn resume(run: &Path, state: &RunState) -> anyhow::Result<Self> {
        let path = run.join(FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let read = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        // An evaluation may have been made after the checkpoint of its own update, which was saved when a signal had
        // abandoned it. (Checkpoints of before they held evaluations know of none.)
        let last = state.evaluations.last();
        let evaluated = last.map_or(state.updates > 0, |last| last.updates == state.updates);
        // A round is explored after the checkpoint of its first update.
        let before = |line: &Line| {
            line.step <= state.updates
                && line.env_steps.is_none_or(|steps| steps <= state.env_steps)
                && (evaluated || line.step < state.updates || !line.tag.starts_with("eval/"))
        };
        let kept: Vec<Line> = read.filter(|line| line.tag == EVA_CONVERGED.tag || before(line)).collect();
        let mut text = String::new();
        for line in &kept {
            text += &(serde_json::to_string(line)? + "\n");
        }
        write_file(&path, |aside| Ok(fs::write(aside, &text)?))?;

        // What stands at the checkpoint's own update is written again, but for update 0, where the config and the
        // adapters' tables stand; so is what has EVA's batches for its axis.
        let mut recorder = Self::create(run)?;
        let from = state.updates.max(1);
        recorder.events.event(restart(), from)?;
        for line in kept.iter().filter(|line| line.step >= from) {
            recorder.events.summary(line.summary(), line.step)?;
        }
        let over_env_steps = kept.iter().filter_map(|line| Some((line.env_steps?, line)));
        if run.join(ENV_STEPS).is_dir() {
            recorder.by_env_steps()?.event(restart(), 0)?;
            for (steps, line) in over_env_steps {
                recorder.by_env_steps()?.summary(line.summary(), steps)?;
            }
        }
        Ok(recorder)
    }

    fn by_env_steps(&mut self) -> anyhow::Result<&mut EventFile> {
        let Self { run, by_env_steps, .. } = self;
        match by_env_steps {
            Some(events) => Ok(events),
            none => Ok(none.insert(EventFile::create(&run.join(ENV_STEPS))?)),
        }
    }

    /// Records a number at an update.
    pub fn scalar(&mut self, metric: Metric, step: usize, value: f64) -> anyhow::Result<()> {
        self.scalar_at(metric, Place { updates: step, env_steps: None }, value)
    }

    /// The same of a module, or of another thing that has a name.
    pub fn scalar_of(&mut self, metric: Metric, name: &str, step: usize, value: f64) -> anyhow::Result<()> {
        self.tagged(&metric.tag_of(name), metric, Place { updates: step, env_steps: None }, value)
    }

    /// Records a number at an update, and at as many environment steps in a run that explores.
    pub(super) fn scalar_at(&mut self, metric: Metric, at: Place, value: f64) -> anyhow::Result<()> {
        self.tagged(metric.tag, metric, at, value)
    }

    /// The same under another tag than the metric's.
    pub(super) fn tagged(&mut self, tag: &str, metric: Metric, at: Place, value: f64) -> anyhow::Result<()> {
        self.events.summary(scalar(tag, metric.meaning, value), at.updates)?;
        if let Some(steps) = at.env_steps {
            self.by_env_steps()?.summary(scalar(tag, metric.meaning, value), steps)?;
        }
        self.line(tag, at, value)
    }

    fn line(&mut self, tag: &str, at: Place, value: f64) -> anyhow::Result<()> {
        let Place { updates: step, env_steps } = at;
        let (value, wall_secs) = (value.is_finite().then_some(value), self.started.elapsed().as_secs_f64());
        let line = Line { step, tag: tag.to_owned(), value, wall_secs, env_steps };
        writeln!(self.lines, "{}", serde_json::to_string(&line)?).context("cannot write metrics.jsonl")
    }

    /// Records each module's rank and what its adapter's components explain: one table, and how both are distributed.
    pub fn sites(&mut self, reports: &[SiteReport<ModuleName>]) -> anyhow::Result<()> {
        let start = Place { updates: 0, env_steps: None };
        let row = |report: &SiteReport<ModuleName>| {
            let explained = format!("{:.1}%", 100.0 * report.explained_variance());
            vec![report.site.to_string(), report.rank.to_string(), explained, format!("{:.3}", report.cosine)]
        };
        let head = ["module", "rank", "explained variance", "cosine"];
        let table = tables::markdown(&head, reports.iter().map(row));
        for SiteReport { site, rank, .. } in reports {
            self.line(&EVA_RANK.tag_of(site), start, *rank as f64)?;
        }
        for report in reports {
            let explained = report.explained_variance();
            self.line(&EVA_EXPLAINED_VARIANCE.tag_of(&report.site), start, explained)?;
        }
        self.events.summary(text(EVA_MODULES.tag, table), 0)?;
        let ranks: Vec<f64> = reports.iter().map(|report| report.rank as f64).collect();
        self.events.summary(histogram(EVA_RANKS.tag, EVA_RANKS.meaning, &ranks), 0)?;
        for report in reports {
            let tag = EVA_COMPONENTS.tag_of(&report.site);
            self.events.summary(histogram(&tag, EVA_COMPONENTS.meaning, &report.explained), 0)?;
        }
        self.flush()
    }

    /// Shows an episode among TensorBoard's images, where it plays.
    pub fn video(&mut self, step: usize, video: &Video) -> anyhow::Result<()> {
        let mut image = Summary_Image::new();
        image.set_width(video.width as i32);
        image.set_height(video.height as i32);
        image.set_colorspace(3); // RGB
        image.set_encoded_image_string(video.gif.clone());
        let mut metadata = plugin("images", Vec::new());
        metadata.set_summary_description(EVAL_VIDEO.meaning.to_owned());
        let mut entry = Summary_Value::new();
        entry.set_tag(EVAL_VIDEO.tag.to_owned());
        entry.set_metadata(metadata);
        entry.set_image(image);
        self.events.summary(summary(entry), step)?;
        self.flush()
    }

    /// Records the config as text, and its values as hyperparameters.
    pub fn config(&mut self, toml: &str, values: &serde_json::Value) -> anyhow::Result<()> {
        self.events.summary(text(CONFIG.tag, format!("```toml\n{toml}\n```")), 0)?;
        let mut start = SessionStartInfo::new();
        let mut flat = Vec::new();
        flatten("", values, &mut flat);
        start.set_hparams(flat.into_iter().collect());
        let mut data = HParamsPluginData::new();
        data.set_session_start_info(start);
        let mut entry = Summary_Value::new();
        entry.set_tag("_hparams_/session_start_info".to_owned());
        entry.set_metadata(plugin("hparams", data.write_to_bytes()?));
        self.events.summary(summary(entry), 0)?;
        self.flush()
    }

    /// Hands everything to the system.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.events.flush()?;
        if let Some(events) = &mut self.by_env_steps {
            events.flush()?;
        }
        self.lines.flush().context("cannot write metrics.jsonl")
    }
}

impl Line {
    /// The same for TensorBoard, once more.
    fn summary(&self) -> Summary {
        scalar(&self.tag, "", self.value.unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use tensorboard_proto::event::Event;

    use super::*;
    use crate::evaluation::Evaluated;
    use crate::metrics::{EVAL_RETURN, LOSS, ROLLOUT_RETURN};

    fn lines(run: &Path) -> Vec<Line> {
        let text = fs::read_to_string(run.join(FILE)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Every event of the folder's event files, with the records' checksums checked.
    fn events(run: &Path) -> Vec<Event> {
        let mut events = Vec::new();
        let mut files: Vec<_> = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("events.out.tfevents."));
        files.sort();
        for file in files {
            let bytes = fs::read(file).unwrap();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
                let data = &rest[12..12 + length];
                let checksum = u32::from_le_bytes(rest[12 + length..16 + length].try_into().unwrap());
                assert_eq!(checksum, tensorboard_rs::masked_crc32c::masked_crc32c(data));
                events.push(Event::parse_from_bytes(data).unwrap());
                rest = &rest[16 + length..];
            }
        }
        events
    }

    /// Gives event files the names of a process that began long ago; a second one in this second would replace them.
    fn age(run: &Path) {
        for entry in fs::read_dir(run).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("events.out.tfevents.") {
                fs::rename(&path, path.with_file_name("events.out.tfevents.0000000001.before")).unwrap();
            }
        }
    }

    #[test]
    fn what_was_recorded_is_read_back_from_both_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(folder.path()).unwrap();
        recorder
            .config("seed = 1", &serde_json::json!({ "seed": 1, "env": { "id": "Pendulum-v1" } }))
            .unwrap();
        recorder.scalar(LOSS, 3, 0.25).unwrap();
        recorder.scalar(EVAL_RETURN, 5, -150.5).unwrap();
        recorder
            .video(5, &Video { width: 8, height: 4, gif: b"GIF89a".to_vec(), pace: String::new() })
            .unwrap();
        recorder.flush().unwrap();
        drop(recorder);

        let events = events(folder.path());
        let values: Vec<(i64, &Summary_Value)> = events
            .iter()
            .flat_map(|event| event.get_summary().get_value().iter().map(|value| (event.get_step(), value)))
            .collect();
        let find = |tag: &str| values.iter().find(|(_, value)| value.get_tag() == tag).unwrap();
        assert_eq!((find("train/loss").0, find("train/loss").1.get_simple_value()), (3, 0.25));
        assert_eq!(find("eval/mean_reward").1.get_simple_value(), -150.5);
        let image = find("eval/episode").1.get_image();
        assert_eq!(
            (image.get_width(), image.get_height(), image.get_encoded_image_string()),
            (8, 4, &b"GIF89a"[..])
        );
        assert!(
            find("config/text_summary").1.get_tensor().get_string_val()[0].starts_with(b"```toml\nseed = 1")
        );
        let hparams = find("_hparams_/session_start_info").1.get_metadata().get_plugin_data();
        let data = HParamsPluginData::parse_from_bytes(hparams.get_content()).unwrap();
        assert_eq!(data.get_session_start_info().get_hparams()["env.id"].get_string_value(), "Pendulum-v1");

        let lines = lines(folder.path());
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[1].step, lines[1].value), (5, Some(-150.5)));
    }

    #[test]
    fn a_resumed_run_forgets_what_came_after_its_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(folder.path()).unwrap();
        for step in 1..=4 {
            recorder.scalar(LOSS, step, step as f64).unwrap();
        }
        recorder.flush().unwrap();
        drop(recorder);
        age(folder.path());
        let state = RunState { updates: 2, ..RunState::default() };
        let mut recorder = Recorder::resume(folder.path(), &state).unwrap();
        recorder.scalar(LOSS, 3, 30.0).unwrap();
        recorder.flush().unwrap();
        drop(recorder);
        let steps: Vec<(usize, Option<f64>)> =
            lines(folder.path()).iter().map(|line| (line.step, line.value)).collect();
        assert_eq!(steps, [(1, Some(1.0)), (2, Some(2.0)), (3, Some(30.0))]);
        assert_eq!(points(folder.path(), LOSS), [(1, 1.0), (2, 2.0), (3, 30.0)]);
        assert!(!folder.path().join(ENV_STEPS).exists());
    }

    /// A metric's points as TensorBoard shows them: what a restart purges is gone.
    fn points(run: &Path, metric: Metric) -> Vec<(i64, f32)> {
        let mut points = Vec::new();
        for event in events(run) {
            if event.has_session_log() {
                points.retain(|(step, _)| *step < event.get_step());
            }
            let values = event.get_summary().get_value().iter();
            let found = values.filter(|value| value.get_tag() == metric.tag);
            points.extend(found.map(|value| (event.get_step(), value.get_simple_value())));
        }
        points
    }

    /// An evaluation with these mean returns, each at a target return of its own.
    fn evaluated(returns: &[(f32, f64)]) -> Evaluated {
        let evaluation = |(target, mean_return): &(f32, f64)| {
            serde_json::json!({
                "target_return": target, "episodes": 2, "mean_return": mean_return, "std_return": 0.5,
                "interval": [0.0, 1.0], "mean_length": 9.0, "success_rate": null, "normalized_score": null,
                "inference": "window", "max_return_to_go": null,
            })
        };
        let targets: Vec<serde_json::Value> = returns.iter().map(evaluation).collect();
        serde_json::from_value(serde_json::json!({ "updates": 0, "targets": targets })).unwrap()
    }

    #[test]
    fn every_target_return_has_its_tags_and_the_first_the_plain_ones_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(folder.path()).unwrap();
        let at = Place { updates: 5, env_steps: None };
        recorder.evaluation(at, &evaluated(&[(3000.0, 7.0), (-1.5, 8.0)])).unwrap();
        recorder.evaluation(at, &evaluated(&[(3000.0, 7.0)])).unwrap(); // one target return has no tags of its own
        drop(recorder);
        let mut found: Vec<(String, f64)> =
            lines(folder.path()).into_iter().map(|line| (line.tag, line.value.unwrap())).collect();
        found.retain(|(tag, _)| !tag.contains("length"));
        let plain = [("eval/mean_reward".to_owned(), 7.0), ("eval/std_reward".to_owned(), 0.5)];
        let each = [
            ("eval/target_3000/mean_reward".to_owned(), 7.0),
            ("eval/target_3000/std_reward".to_owned(), 0.5),
            ("eval/target_-1.5/mean_reward".to_owned(), 8.0),
            ("eval/target_-1.5/std_reward".to_owned(), 0.5),
        ];
        assert_eq!(found, [&plain[..], &each[..], &plain[..]].concat());
    }

    #[test]
    fn what_episodes_came_to_stands_over_environment_steps_too_after_a_resume_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let by_env_steps = folder.path().join(ENV_STEPS);
        let at = |updates, env_steps| Place { updates, env_steps: Some(env_steps) };
        let mut recorder = Recorder::create(folder.path()).unwrap();
        let found = evaluated(&[(1.0, 10.0)]);
        recorder.evaluation(at(0, 0), &found).unwrap();
        recorder.exploration(at(20, 100), &found.targets[0], 1.0).unwrap();
        recorder.scalar(LOSS, 30, 1.0).unwrap();
        recorder.evaluation(at(40, 100), &found).unwrap();
        // The checkpoint of update 40 was saved here; the next round begins after it.
        recorder.exploration(at(40, 200), &found.targets[0], 1.0).unwrap();
        recorder.evaluation(at(60, 200), &found).unwrap();
        drop(recorder);
        assert_eq!(points(&by_env_steps, EVAL_RETURN), [(0, 10.0), (100, 10.0), (200, 10.0)]);
        assert_eq!(points(&by_env_steps, LOSS), []);

        age(folder.path());
        age(&by_env_steps);
        let state = RunState { updates: 40, env_steps: 100, ..RunState::default() };
        let mut recorder = Recorder::resume(folder.path(), &state).unwrap();
        let better = evaluated(&[(1.0, 20.0)]);
        recorder.exploration(at(40, 250), &better.targets[0], 1.0).unwrap();
        recorder.evaluation(at(60, 250), &better).unwrap();
        drop(recorder);
        assert_eq!(points(&by_env_steps, EVAL_RETURN), [(0, 10.0), (100, 10.0), (250, 20.0)]);
        assert_eq!(points(&by_env_steps, ROLLOUT_RETURN), [(100, 10.0), (250, 20.0)]);
        assert_eq!(points(folder.path(), ROLLOUT_RETURN), [(20, 10.0), (40, 20.0)]);
        assert_eq!(points(folder.path(), EVAL_RETURN), [(0, 10.0), (40, 10.0), (60, 20.0)]);
        let kept = lines(folder.path()).into_iter().filter(|line| line.tag == ROLLOUT_RETURN.tag);
        let kept: Vec<(usize, Option<usize>)> = kept.map(|line| (line.step, line.env_steps)).collect();
        assert_eq!(kept, [(20, Some(100)), (40, Some(250))]);
    }

    #[test]
    fn an_evaluation_that_its_checkpoint_does_not_know_is_forgotten_and_recorded_once() {
        let found = evaluated(&[(1.0, 10.0)]);
        let at = |updates| Place { updates, env_steps: Some(100) };
        for (known, kept) in [(20, vec![(20, 10.0)]), (40, vec![(20, 10.0), (40, 10.0)])] {
            let folder = tempfile::tempdir().unwrap();
            let mut recorder = Recorder::create(folder.path()).unwrap();
            recorder.evaluation(at(20), &found).unwrap();
            recorder.scalar(LOSS, 40, 1.0).unwrap();
            recorder.evaluation(at(40), &found).unwrap();
            drop(recorder);
            age(folder.path());
            age(&folder.path().join(ENV_STEPS));
            let evaluations = vec![Evaluated { updates: known, ..evaluated(&[(1.0, 10.0)]) }];
            let state = RunState { updates: 40, env_steps: 100, evaluations, ..RunState::default() };
            drop(Recorder::resume(folder.path(), &state).unwrap());
            assert_eq!(points(folder.path(), EVAL_RETURN), kept);
            assert_eq!(points(folder.path(), LOSS), [(40, 1.0)]);
        }
    }

    #[test]
    fn constants_of_a_run_are_one_text_and_no_charts() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(folder.path()).unwrap();
        let report = |name: &str, rank, explained: &[f64]| SiteReport {
            site: name.into(),
            rank,
            explained: explained.to_vec(),
            cosine: 0.99,
        };
        recorder.sites(&[report("encoder.h.0.attn.c_attn", 2, &[0.5, 0.25, 0.1])]).unwrap();
        drop(recorder);
        let events = events(folder.path());
        let values: Vec<&Summary_Value> =
            events.iter().flat_map(|event| event.get_summary().get_value()).collect();
        let tags: Vec<&str> = values.iter().map(|value| value.get_tag()).collect();
        assert_eq!(tags, ["eva/modules/text_summary", "eva/ranks", "eva/components/encoder.h.0.attn.c_attn"]);
        let text = String::from_utf8(values[0].get_tensor().get_string_val()[0].clone()).unwrap();
        assert!(text.ends_with("\n| encoder.h.0.attn.c_attn | 2 | 75.0% | 0.990 |"), "{text}");
    }
}
