//! TensorBoard's messages, one function a kind.

use protobuf::RepeatedField;
use protobuf::well_known_types::Value as ProtoValue;
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_proto::summary::{
    HistogramProto, Summary, Summary_Value, SummaryMetadata, SummaryMetadata_PluginData,
};
use tensorboard_proto::tensor::TensorProto;
use tensorboard_proto::tensor_shape::{TensorShapeProto, TensorShapeProto_Dim};
use tensorboard_proto::types::DataType;

/// What makes TensorBoard forget all from its step on.
pub(super) fn restart() -> Event {
    let mut log = SessionLog::new();
    log.set_status(SessionLog_SessionStatus::START);
    let mut event = Event::new();
    event.set_session_log(log);
    event
}

/// A number, and what its tag means.
pub(super) fn scalar(tag: &str, meaning: &str, value: f64) -> Summary {
    let mut metadata = plugin("scalars", Vec::new());
    metadata.set_summary_description(meaning.to_owned());
    let mut entry = Summary_Value::new();
    entry.set_tag(tag.to_owned());
    entry.set_metadata(metadata);
    entry.set_simple_value(value as f32);
    summary(entry)
}

/// What an event holds.
pub(super) fn summary(entry: Summary_Value) -> Summary {
    let mut summary = Summary::new();
    summary.set_value(RepeatedField::from_vec(vec![entry]));
    summary
}

/// What makes TensorBoard show an entry in a plugin of its own.
pub(super) fn plugin(name: &str, content: Vec<u8>) -> SummaryMetadata {
    let mut data = SummaryMetadata_PluginData::new();
    data.set_plugin_name(name.to_owned());
    data.set_content(content);
    let mut metadata = SummaryMetadata::new();
    metadata.set_plugin_data(data);
    metadata
}

/// `{"a": {"b": 1}}` as `a.b` = 1; lists become text.
pub(super) fn flatten(prefix: &str, value: &serde_json::Value, into: &mut Vec<(String, ProtoValue)>) {
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

/// How values spread, in thirty buckets.
pub(super) fn histogram(tag: &str, meaning: &str, values: &[f64]) -> Summary {
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
    summary(entry)
}

/// Markdown among TensorBoard's texts.
pub(super) fn text(name: &str, markdown: String) -> Summary {
    let mut tensor = TensorProto::new();
    tensor.set_dtype(DataType::DT_STRING);
    let mut dimension = TensorShapeProto_Dim::new();
    dimension.set_size(1);
    let mut shape = TensorShapeProto::new();
    shape.set_dim(RepeatedField::from_vec(vec![dimension]));
    tensor.set_tensor_shape(shape);
    tensor.set_string_val(RepeatedField::from_vec(vec![markdown.into_bytes()]));
    let mut entry = Summary_Value::new();
    entry.set_tag(format!("{name}/text_summary"));
    entry.set_metadata(plugin("text", Vec::new()));
    entry.set_tensor(tensor);
    summary(entry)
}
