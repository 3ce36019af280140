//! Writes a run's numbers to its TensorBoard event file and to `metrics.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use eva_rl_agents::eva::SiteReport;
use eva_rl_agents::site::Site;
use protobuf::well_known_types::Value as ProtoValue;
use protobuf::{Message, RepeatedField};
use serde::{Deserialize, Serialize};
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_proto::plugin_hparams::{HParamsPluginData, SessionStartInfo};
use tensorboard_proto::summary::{
    HistogramProto, Summary, Summary_Image, Summary_Value, SummaryMetadata, SummaryMetadata_PluginData,
};
use tensorboard_proto::tensor::TensorProto;
use tensorboard_proto::tensor_shape::{TensorShapeProto, TensorShapeProto_Dim};
use tensorboard_proto::types::DataType;
use tensorboard_rs::summary_writer::FileWriter;

use super::{EVA_SETTLED, EVAL_FILM, EVAL_RETURN, EVAL_SUCCESS, Metric};
use crate::evaluation::TaskEvaluation;
use crate::film::Film;

const FILE: &str = "metrics.jsonl";

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
}

/// Writes the numbers of one run.
pub struct Recorder {
    events: FileWriter,
    lines: BufWriter<File>,
    started: Instant,
}

impl Recorder {
    /// Writes into a run folder that exists.
    pub fn create(run: &Path) -> anyhow::Result<Self> {
        let path = run.join(FILE);
        let lines = OpenOptions::new().create(true).append(true).open(&path);
        let lines = lines.with_context(|| format!("cannot write {path:?}"))?;
        Ok(Self { events: FileWriter::new(run), lines: BufWriter::new(lines), started: Instant::now() })
    }

    /// Starts a run again that was killed before its first checkpoint: what it wrote is forgotten.
    pub fn start_again(run: &Path) -> anyhow::Result<Self> {
        for entry in fs::read_dir(run)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name == FILE || name.starts_with("events.out.tfevents.") {
                fs::remove_file(&path).with_context(|| format!("cannot remove {path:?}"))?;
            }
        }
        Self::create(run)
    }

    /// Goes on after a stop: what was written past update `step` is forgotten.
    pub fn resume(run: &Path, step: usize) -> anyhow::Result<Self> {
        let path = run.join(FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let read = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let kept: Vec<Line> = read.filter(|line| line.step <= step || line.tag == EVA_SETTLED.tag).collect();
        let mut text = String::new();
        for line in &kept {
            text += &(serde_json::to_string(line)? + "\n");
        }
        let aside = run.join(format!(".{FILE}.tmp"));
        fs::write(&aside, text)
            .and_then(|()| fs::rename(&aside, &path))
            .with_context(|| format!("cannot write {path:?}"))?;

        let mut recorder = Self::create(run)?;
        let mut log = SessionLog::new();
        log.set_status(SessionLog_SessionStatus::START);
        let mut event = Event::new();
        event.set_session_log(log);
        recorder.events.add_event(&event, step + 1);
        // The purge also takes what has EVA's batches for its axis.
        for line in kept.iter().filter(|line| line.step > step) {
            let value = line.value.unwrap_or(f64::NAN);
            recorder.events.add_summary(scalar_summary(&line.tag, EVA_SETTLED.meaning, value), line.step);
        }
        Ok(recorder)
    }

    /// Records a number at an update.
    pub fn scalar(&mut self, metric: Metric, step: usize, value: f64) -> anyhow::Result<()> {
        self.tagged(metric.tag, metric.meaning, step, value)
    }

    fn tagged(&mut self, tag: &str, meaning: &str, step: usize, value: f64) -> anyhow::Result<()> {
        self.events.add_summary(scalar_summary(tag, meaning, value), step);
        let value = value.is_finite().then_some(value);
        let line = Line { step, tag: tag.to_owned(), value, wall_secs: self.started.elapsed().as_secs_f64() };
        writeln!(self.lines, "{}", serde_json::to_string(&line)?).context("cannot write metrics.jsonl")
    }

    /// Records what each task of an evaluation came to, by its environment's id.
    pub fn tasks(&mut self, step: usize, tasks: &[TaskEvaluation]) -> anyhow::Result<()> {
        for TaskEvaluation { env, found, .. } in tasks {
            self.tagged(&format!("{}/{env}", EVAL_RETURN.tag), EVAL_RETURN.meaning, step, found.mean_return)?;
            if let Some(rate) = found.success_rate {
                self.tagged(&format!("{}/{env}", EVAL_SUCCESS.tag), EVAL_SUCCESS.meaning, step, rate)?;
            }
        }
        Ok(())
    }

    /// Records each site's rank and what its adapter's directions explain, and how both spread.
    pub fn sites(&mut self, reports: &[SiteReport<Site>]) -> anyhow::Result<()> {
        for SiteReport { site, rank, .. } in reports {
            self.tagged(&format!("eva/rank/{site}"), "rank of the site's adapter", 0, *rank as f64)?;
        }
        for report in reports {
            let tag = format!("eva/explained_variance/{}", report.site);
            self.tagged(&tag, "share of the site's variance that its A spans", 0, report.covered())?;
        }
        let ranks: Vec<f64> = reports.iter().map(|report| report.rank as f64).collect();
        self.histogram("eva/ranks", "ranks of the sites", &ranks);
        for report in reports {
            let tag = format!("eva/components/{}", report.site);
            let meaning = "share of the site's variance that each candidate direction explains";
            self.histogram(&tag, meaning, &report.explained);
        }
        self.flush()
    }

    /// Writes how values spread, in thirty buckets.
    fn histogram(&mut self, tag: &str, meaning: &str, values: &[f64]) {
        const BUCKETS: usize = 30;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let width = ((most - least) / BUCKETS as f64).max(f64::EPSILON);
        let mut counts = vec![0.0; BUCKETS];
        for value in values {
            counts[(((value - least) / width) as usize).min(BUCKETS - 1)] += 1.0;
        }
        let mut histogram = HistogramProto::new();
        histogram.set_min(least);
        histogram.set_max(most);
        histogram.set_num(values.len() as f64);
        histogram.set_sum(values.iter().sum());
        histogram.set_sum_squares(values.iter().map(|value| value * value).sum());
        histogram.set_bucket_limit((1..=BUCKETS).map(|edge| least + width * edge as f64).collect());
        histogram.set_bucket(counts);
        let mut metadata = plugin("histograms", Vec::new());
        metadata.set_summary_description(meaning.to_owned());
        let mut entry = Summary_Value::new();
        entry.set_tag(tag.to_owned());
        entry.set_metadata(metadata);
        entry.set_histo(histogram);
        self.events.add_summary(summary(entry), 0);
    }

    /// Shows an episode among TensorBoard's images, where it plays.
    pub fn film(&mut self, step: usize, film: &Film) -> anyhow::Result<()> {
        let mut image = Summary_Image::new();
        image.set_width(film.width as i32);
        image.set_height(film.height as i32);
        image.set_colorspace(3); // RGB
        image.set_encoded_image_string(film.gif.clone());
        let mut metadata = plugin("images", Vec::new());
        metadata.set_summary_description(EVAL_FILM.meaning.to_owned());
        let mut entry = Summary_Value::new();
        entry.set_tag(EVAL_FILM.tag.to_owned());
        entry.set_metadata(metadata);
        entry.set_image(image);
        self.events.add_summary(summary(entry), step);
        self.flush()
    }

    /// Records the config as text, and its values as hyperparameters.
    pub fn config(&mut self, toml: &str, values: &serde_json::Value) -> anyhow::Result<()> {
        let mut tensor = TensorProto::new();
        tensor.set_dtype(DataType::DT_STRING);
        let mut dimension = TensorShapeProto_Dim::new();
        dimension.set_size(1);
        let mut shape = TensorShapeProto::new();
        shape.set_dim(RepeatedField::from_vec(vec![dimension]));
        tensor.set_tensor_shape(shape);
        tensor.set_string_val(RepeatedField::from_vec(vec![format!("```toml\n{toml}\n```").into_bytes()]));
        let mut entry = Summary_Value::new();
        entry.set_tag("config/text_summary".to_owned());
        entry.set_metadata(plugin("text", Vec::new()));
        entry.set_tensor(tensor);
        self.events.add_summary(summary(entry), 0);

        let mut start = SessionStartInfo::new();
        let mut flat = Vec::new();
        flatten("", values, &mut flat);
        start.set_hparams(flat.into_iter().collect());
        let mut data = HParamsPluginData::new();
        data.set_session_start_info(start);
        let mut entry = Summary_Value::new();
        entry.set_tag("_hparams_/session_start_info".to_owned());
        entry.set_metadata(plugin("hparams", data.write_to_bytes()?));
        self.events.add_summary(summary(entry), 0);
        self.flush()
    }

    /// Hands everything to the system.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.events.flush();
        self.lines.flush().context("cannot write metrics.jsonl")
    }
}

fn scalar_summary(tag: &str, meaning: &str, value: f64) -> Summary {
    let mut metadata = plugin("scalars", Vec::new());
    metadata.set_summary_description(meaning.to_owned());
    let mut entry = Summary_Value::new();
    entry.set_tag(tag.to_owned());
    entry.set_metadata(metadata);
    entry.set_simple_value(value as f32);
    summary(entry)
}

fn summary(entry: Summary_Value) -> Summary {
    let mut summary = Summary::new();
    summary.set_value(RepeatedField::from_vec(vec![entry]));
    summary
}

fn plugin(name: &str, content: Vec<u8>) -> SummaryMetadata {
    let mut data = SummaryMetadata_PluginData::new();
    data.set_plugin_name(name.to_owned());
    data.set_content(content);
    let mut metadata = SummaryMetadata::new();
    metadata.set_plugin_data(data);
    metadata
}

/// `{"a": {"b": 1}}` as `a.b` = 1; lists become text.
fn flatten(prefix: &str, value: &serde_json::Value, into: &mut Vec<(String, ProtoValue)>) {
    if let serde_json::Value::Object(table) = value {
        for (key, value) in table {
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            flatten(&name, value, into);
        }
        return;
    }
    let mut leaf = ProtoValue::new();
    match value {
        serde_json::Value::Bool(flag) => leaf.set_bool_value(*flag),
        serde_json::Value::Number(number) => leaf.set_number_value(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => leaf.set_string_value(text.clone()),
        other => leaf.set_string_value(other.to_string()),
    }
    into.push((prefix.to_owned(), leaf));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{EVAL_RETURN, LOSS};

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
            .film(5, &Film { width: 8, height: 4, gif: b"GIF89a".to_vec(), pace: String::new() })
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
        let mut recorder = Recorder::resume(folder.path(), 2).unwrap();
        recorder.scalar(LOSS, 3, 30.0).unwrap();
        recorder.flush().unwrap();
        drop(recorder);
        let steps: Vec<(usize, Option<f64>)> =
            lines(folder.path()).iter().map(|line| (line.step, line.value)).collect();
        assert_eq!(steps, [(1, Some(1.0)), (2, Some(2.0)), (3, Some(30.0))]);
        let restart = events(folder.path()).into_iter().find(Event::has_session_log).unwrap();
        assert_eq!(restart.get_step(), 3);
    }
}
