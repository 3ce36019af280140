//! Results on stdout, as text or JSON.

use std::io::{ErrorKind, Write};

use anyhow::Context;
use serde_json::Value;
use signal_hook::consts::SIGPIPE;

use super::signals;
use super::silence::is_silent;

/// Prints a result on stdout. Where its reader has gone (`| head -1`), the program ends in silence by
/// SIGPIPE, as others do; the signal itself is not taken, because it would come from workers' sockets too.
pub fn print(text: &str) -> anyhow::Result<()> {
    if is_silent() {
        return Ok(());
    }
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => signals::end_by(SIGPIPE),
        written => written.context("cannot write to stdout"),
    }
}

/// A value for people: numbers with six digits, long lists summed up, and no quotes.
pub fn brief(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            number.as_f64().filter(|_| number.is_f64()).map_or(number.to_string(), six_digits)
        }
        Value::Array(values) if values.len() > LONG => {
            let first: Vec<String> = values.iter().take(3).map(brief).collect();
            let numbers = values.iter().filter_map(Value::as_f64);
            let (least, most) = numbers
                .clone()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), x| (least.min(x), most.max(x)));
            let range = if least <= most {
                format!(" from {} to {}", six_digits(least), six_digits(most))
            } else {
                String::new()
            };
            format!("{} values{range}: {}, … (--json has all)", values.len(), first.join(", "))
        }
        Value::Array(values) => values.iter().map(brief).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name} {}", brief(value)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Bool(_) => value.to_string(),
    }
}

/// Values of a list that are shown whole.
const LONG: usize = 12;

/// Six significant digits.
fn six_digits(x: f64) -> String {
    if x == 0.0 || !x.is_finite() {
        return format!("{x:?}");
    }
    let digits = (5 - x.abs().log10().floor() as i32).max(0) as usize;
    if digits > 11 {
        return format!("{x:.5e}");
    }
    let text = format!("{x:.digits$}");
    match text.split_once('.') {
        None => text,
        Some((whole, part)) => match part.trim_end_matches('0') {
            "" => format!("{whole}.0"),
            part => format!("{whole}.{part}"),
        },
    }
}

/// Prints a JSON document on stdout.
pub fn print_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(document)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_short_for_people() {
        assert_eq!(brief(&json!(21302972.056850694)), "21302972");
        assert_eq!(brief(&json!(0.0175 + 0.0001)), "0.0176");
        assert_eq!(brief(&json!(1234.56789)), "1234.57");
        assert_eq!(brief(&json!(1.5e-9)), "1.50000e-9");
        assert_eq!(brief(&json!("Pendulum-v1")), "Pendulum-v1");
        assert_eq!(brief(&json!([1.0, -2.5, 3])), "1.0, -2.5, 3");
        let long: Vec<f64> = (0..28224).map(f64::from).collect();
        assert_eq!(
            brief(&json!(long)),
            "28224 values from 0.0 to 28223.0: 0.0, 1.0, 2.0, … (--json has all)"
        );
    }
}
