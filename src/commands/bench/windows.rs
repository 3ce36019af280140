//! What drawing windows from a dataset costs.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};

use super::subject::median;
use crate::cli::BenchWindowsArgs;
use crate::data::{self, Reading, Replay};
use crate::support::seeds::{self, Purpose};

/// Draws batches as `train` draws them, and measures a window of them.
pub fn run(args: &BenchWindowsArgs) -> anyhow::Result<Value> {
    let reading = Reading { images: true, ..Reading::default() };
    let dataset = data::read_named(&args.data, reading)?;
    let (episodes, width, action_width) =
        (dataset.trajectories.len(), dataset.observation_width, dataset.action.width());
    let mut replay = Replay::new(episodes, width, action_width);
    let mut image_bytes = 0;
    for mut trajectory in dataset.trajectories {
        if args.in_memory {
            image_bytes += trajectory.images.to_mut().parts().1.len();
        }
        replay.push(trajectory);
    }
    let (batch, steps) = (usize::from(args.batch_size), args.steps as usize);
    let mut secs = Vec::new();
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < args.seconds || secs.len() < 3 {
        let mut draw = seeds::generator(0, Purpose::UpdateWindows, secs.len());
        let one = Instant::now();
        black_box(replay.sample(batch, steps, &mut draw));
        secs.push(one.elapsed().as_secs_f64() / batch as f64);
    }
    Ok(json!({
        "steps": replay.steps(),
        "image_bytes_in_memory": image_bytes,
        "batches": secs.len(),
        "secs_per_window": median(secs),
    }))
}
