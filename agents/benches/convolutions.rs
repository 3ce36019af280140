//! What EVA on convolutions costs: batches and seconds with them and without, and the angle that sampled patches leave.
//!
//! The policy has the published Atari shape (6 × 128, windows of 30 steps of four frames) and plays a made game of two
//! bats and a ball, which it has cloned for a few updates. What it prints is the end of docs/eva-cost.md.

use std::time::Instant;

use eva_rl_agents::adapter::site::Site;
use eva_rl_agents::adapter::{AdapterSet, Rank};
use eva_rl_agents::adapter_init::eva::{EvaOptions, SolverKind};
use eva_rl_agents::adapter_init::{AdapterMethod, TaskData};
use eva_rl_agents::loss::behaviour_cloning;
use eva_rl_agents::model::{ActionKind, Activation, ForwardContext, Inputs, PolicyConfig, TransformerPolicy};
use eva_rl_agents::optimiser::{Optimiser, Settings};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tch::{Device, Kind, Tensor};

const STEPS: usize = 30;
const WINDOWS: usize = 64;
const SIDE: usize = 84;
const UPDATES: usize = 30;

const REMARK: &str = "`auto` keeps the whole covariance of patches up to 1,024 numbers, because behind a few large components the others fall slowly, and a sketch misses them. 8 patches are the default. What 4 other batches give is as far away as the data's own noise; the first convolution's eighth component explains little more than its ninth, so the angle there says more than it costs. Decompositions cost the same however small a batch is, which shows in small batches.";

/// One long episode: frames of bytes `[N, 84, 84]` and the action in each, up, down or neither.
struct Game {
    frames: Tensor,
    actions: Vec<i64>,
    order: Vec<usize>,
    /// Windows a batch.
    batch: usize,
}

impl Game {
    fn new(frames: usize, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut pixels = vec![0u8; frames * SIDE * SIDE];
        let mut actions = Vec::with_capacity(frames);
        let (mut ball, mut speed) = ([42.0f64, 40.0], [1.6f64, 1.1]);
        let mut bats = [40.0f64, 40.0];
        for frame in pixels.chunks_mut(SIDE * SIDE) {
            frame.fill(87);
            let mut fill = |rows: [f64; 2], columns: [f64; 2], value: u8| {
                let clip = |range: [f64; 2]| range.map(|at| at.clamp(0.0, SIDE as f64) as usize);
                let ([top, bottom], [left, right]) = (clip(rows), clip(columns));
                (top..bottom).for_each(|row| frame[row * SIDE + left..row * SIDE + right].fill(value));
            };
            fill([10.0, 14.0], [0.0, 84.0], 236);
            fill([78.0, 82.0], [0.0, 84.0], 236);
            fill([bats[0] - 4.0, bats[0] + 4.0], [8.0, 10.0], 147);
            fill([bats[1] - 4.0, bats[1] + 4.0], [74.0, 76.0], 148);
            fill([ball[1] - 1.0, ball[1] + 1.0], [ball[0] - 1.0, ball[0] + 1.0], 236);
            let gap = ball[1] - bats[1] + rng.gen_range(-3.0..3.0);
            let action = if gap.abs() < 2.0 { 0 } else { 1 + i64::from(gap > 0.0) };
            actions.push(action);
            bats[1] += [0.0, -1.5, 1.5][action as usize];
            bats[0] += (ball[1] - bats[0]).clamp(-1.2, 1.2);
            for axis in 0..2 {
                ball[axis] += speed[axis];
            }
            if ball[1] < 16.0 || ball[1] > 76.0 {
                speed[1] = -speed[1];
            }
            let hits = |bat: f64| (ball[1] - bat).abs() < 6.0;
            if (ball[0] < 11.0 && hits(bats[0])) || (ball[0] > 73.0 && hits(bats[1])) {
                speed = [-speed[0].signum() * rng.gen_range(1.2..2.2), rng.gen_range(-1.8..1.8)];
                ball[0] = ball[0].clamp(12.0, 72.0);
            } else if !(4.0..80.0).contains(&ball[0]) {
                (ball, speed) = ([42.0, rng.gen_range(20.0..70.0)], [1.6, rng.gen_range(-1.5..1.5)]);
            }
        }
        let frames = Tensor::from_slice(&pixels).view([frames as i64, SIDE as i64, SIDE as i64]);
        let mut order: Vec<usize> = (3..actions.len() - STEPS).collect();
        order.shuffle(&mut rng);
        Self { frames, actions, order, batch: WINDOWS }
    }

    /// Windows that start at these steps; four frames a step, the newest last.
    fn windows(&self, starts: &[usize]) -> Inputs {
        let steps: Vec<usize> = starts.iter().flat_map(|start| *start..start + STEPS).collect();
        let frames: Vec<i64> =
            steps.iter().flat_map(|step| (step - 3..=*step).map(|frame| frame as i64)).collect();
        let actions: Vec<i64> = steps.iter().map(|step| self.actions[*step]).collect();
        let (windows, time) = (starts.len() as i64, STEPS as i64);
        let shape = [windows, time];
        Inputs {
            states: Tensor::zeros([windows, time, 0], (Kind::Float, Device::Cpu)),
            words: None,
            images: Some(
                self.frames.index_select(0, &Tensor::from_slice(&frames)).view([windows, time, 4, 84, 84]),
            ),
            previous: None,
            actions: Tensor::from_slice(&actions).view(shape).one_hot(3).to_kind(Kind::Float),
            rewards: None,
            returns_to_go: Tensor::ones([windows, time, 1], (Kind::Float, Device::Cpu)),
            timesteps: Tensor::zeros(shape, (Kind::Int64, Device::Cpu)),
            mask: Tensor::ones(shape, (Kind::Bool, Device::Cpu)),
        }
    }
}

impl TaskData for Game {
    fn batches_per_pass(&self) -> usize {
        self.order.len().div_ceil(self.batch)
    }

    fn batch_of_pass(&mut self, _: usize, batch: usize) -> Inputs {
        self.windows(self.order.chunks(self.batch).nth(batch).expect("a pass has so many batches"))
    }

    fn sampled_batch(&mut self, batch: usize) -> Inputs {
        self.batch_of_pass(0, batch % self.batches_per_pass())
    }
}

fn policy(game: &Game) -> TransformerPolicy {
    tch::manual_seed(1);
    let mut policy = TransformerPolicy::new(
        PolicyConfig {
            model_type: "decision_transformer_atari".to_owned(),
            image_shape: Some([4, 84, 84]),
            state_dim: 4 * 84 * 84,
            act_dim: 3,
            vocab_size: 3,
            hidden_size: 128,
            n_layer: 6,
            n_head: 8,
            max_ep_len: 10,
            n_positions: 91,
            context_length: Some(STEPS as i64),
            action_kind: ActionKind::Discrete,
            action_tanh: false,
            global_positions: true,
            activation_function: Activation::Gelu,
            return_scale: Some(1.0),
            ..PolicyConfig::default()
        },
        Device::Cpu,
    );
    policy.unfreeze();
    let weights = policy.weights().iter().filter(|(name, _)| *name != "tok_emb.weight"); // which nobody reads
    let weights = weights.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    let mut optimiser = Optimiser::new(weights, Settings::default());
    let mut rng = SmallRng::seed_from_u64(2);
    for _ in 0..UPDATES {
        let starts: Vec<usize> = (0..16).map(|_| rng.gen_range(3..game.actions.len() - STEPS)).collect();
        optimiser.zero_grad();
        let loss = behaviour_cloning(&policy, &mut ForwardContext::bare(), &game.windows(&starts));
        loss.backward();
        optimiser.step(1e-3);
    }
    policy.merged(&AdapterSet::default())
}

/// The root mean square angle between the spans of orthonormal rows `[R, in]`, in degrees.
fn angle(a: &Tensor, b: &Tensor) -> f64 {
    let rank = a.size()[0].min(b.size()[0]);
    let overlap = a.narrow(0, 0, rank).matmul(&b.narrow(0, 0, rank).tr()).square().sum(Kind::Double);
    (1.0 - overlap.double_value(&[]) / rank as f64).max(0.0).sqrt().asin().to_degrees()
}

fn main() {
    let rank = Rank::try_from(8).expect("8 is no zero");
    let mut game = Game::new(6000, 1);
    let policy = policy(&game);
    let linear: Vec<Site> = policy.sites().cloned().collect();
    let convolutions: Vec<Site> =
        policy.all_sites().iter().filter(|site| site.kernel.is_some()).cloned().collect();
    let both: Vec<Site> = convolutions.iter().chain(&linear).cloned().collect();
    println!("\n## Convolutions\n");
    println!(
        "Made by `cargo bench -p eva-rl-agents --bench convolutions`: a policy of the published Atari shape (6 x 128, K = 30, 84 x 84 pixels) that has cloned a made game of two bats and a ball for {UPDATES} updates; rank 8, one run.\n"
    );

    println!("### Patches\n");
    println!(
        "A convolution's rows are patches of the images that it reads: 400, 81 and 49 places of each. Root mean square angle to the exact components of all patches of the same 4 batches of {WINDOWS} windows.\n"
    );
    println!(
        "| patches | solver | {} |",
        convolutions.iter().map(header).collect::<Vec<String>>().join(" | ")
    );
    println!("|---|---|---|---|---|");
    let mut fixed = |patches, solver, first: usize| {
        let size = EvaOptions { rho: 1.0, tau: Some(1.0), max_batches: 4, ..EvaOptions::new(rank) };
        let options = EvaOptions { patches, solver, ..size };
        game.order.rotate_left(first);
        let made = options.initialise(&policy, &convolutions, &mut game, &mut |_| {});
        game.order.rotate_right(first);
        made.expect("frames have patches").adapters.expect("EVA makes adapters")
    };
    let all = fixed(400, SolverKind::Gram, 0);
    let tell = |found: &AdapterSet, patches: &str, solver: &str| {
        let angles = all.sites.iter().map(|(module, lora)| {
            let one = &found.sites[module];
            format!("{:.1}°", tch::no_grad(|| angle(&one.down, &lora.down)))
        });
        println!("| {patches} | {solver} | {} |", angles.collect::<Vec<String>>().join(" | "));
    };
    for patches in [1, 4, 8, 16, 64] {
        tell(&fixed(patches, SolverKind::Auto, 0), &patches.to_string(), "auto");
    }
    for patches in [16, 400] {
        tell(&fixed(patches, SolverKind::Sketch, 0), &patches.to_string(), "sketch");
    }
    tell(&fixed(400, SolverKind::Gram, 4 * WINDOWS), "400, of 4 other batches", "gram");

    println!("\n### Batches\n");
    println!(
        "Until EVA has converged over the linear modules of the blocks, and over them and the convolutions; forwards are the same number of passes without EVA.\n"
    );
    println!("| windows a batch | tau | modules | patches | batches | seconds | / forwards |");
    println!("|---|---|---|---|---|---|---|");
    for (batch, tau) in [(WINDOWS, 0.995), (8, 0.995), (8, 0.999), (4, 0.999)] {
        game.batch = batch;
        for (what, sites, patches) in [
            ("linear", &linear, None),
            ("all", &both, Some(4)),
            ("all", &both, Some(8)),
            ("all", &both, Some(16)),
        ] {
            let options = EvaOptions { tau: Some(tau), ..EvaOptions::new(rank) };
            let options = EvaOptions { patches: patches.unwrap_or(options.patches), ..options };
            let begun = Instant::now();
            let made =
                options.initialise(&policy, sites, &mut game, &mut |_| {}).expect("windows have tokens");
            let (batches, secs) =
                (made.eva.expect("EVA has a result").progress.batches, begun.elapsed().as_secs_f64());
            let begun = Instant::now();
            for index in 0..batches {
                let inputs = game.batch_of_pass(0, index);
                let _encoded = tch::no_grad(|| policy.encode(&mut ForwardContext::bare(), &inputs));
            }
            let ratio = secs / begun.elapsed().as_secs_f64();
            let patches = patches.map_or("–".to_owned(), |patches| patches.to_string());
            println!("| {batch} | {tau} | {what} | {patches} | {batches} | {secs:.1} | {ratio:.2} |");
        }
    }
    println!("\n{}", REMARK);
}

/// A convolution's name and its kernel.
fn header(site: &Site) -> String {
    let kernel = site.kernel.expect("it is a convolution's");
    format!("{} {kernel:?}", site.module)
}
