//! What a pool of MuJoCo's tasks costs beside its physics alone, and how it grows with threads.
//!
//! The physics alone are bare `mj_step` loops over the same models, actions and starts, which begin
//! anew in the very steps in which the pool's episodes end. Both take turns; medians are compared.
//!
//! `cargo bench -p eva-rl-envs --bench mujoco -- Hopper-v5`

use std::sync::Arc;
use std::time::Instant;

use eva_rl_envs::{ActionSpace, Kwargs, Phase, StepBatch, episode_rng, make};
use mujoco_rs::wrappers::{MjData, MjModel};
use rand::Rng;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
use rayon::slice::ParallelSlice;
use rayon::{ThreadPool, ThreadPoolBuilder};

const NUM_ENVS: usize = 64;
const STEPS: usize = 300;
const TURNS: usize = 5;
const TASKS: [(&str, &str, usize); 4] = [
    ("Hopper-v5", "hopper", 4),
    ("HalfCheetah-v5", "half_cheetah", 5),
    ("Walker2d-v5", "walker2d_v5", 4),
    ("Ant-v5", "ant", 5),
];

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let threads = |count| ThreadPoolBuilder::new().num_threads(count).build().expect("threads start");
    let (one, two) = (threads(1), threads(2));
    for (id, model, frame_skip) in TASKS {
        if !named.is_empty() && !named.iter().any(|name| name == id) {
            continue;
        }
        let play = Play::record(id);
        let path = format!("{}/../.mujoco/models/{model}.xml", env!("CARGO_MANIFEST_DIR"));
        let model = Arc::new(MjModel::from_xml(path).expect("`make setup` put it there"));
        let [mut pool, mut bare, mut alone] = [const { Vec::new() }; 3];
        for _ in 0..TURNS {
            pool.push(two.install(|| pool_secs(id, &play)));
            bare.push(bare_secs(&two, &model, frame_skip, &play));
            alone.push(one.install(|| pool_secs(id, &play)));
        }
        let rate = |secs: Vec<f64>| (NUM_ENVS * STEPS) as f64 / median(secs);
        let (pool, bare, alone) = (rate(pool), rate(bare), rate(alone));
        println!(
            "{id:15} pool {pool:7.0} steps/s, bare mj_step {bare:7.0}, ratio {:.2}; one thread {alone:7.0}, scaling {:.2}",
            pool / bare,
            pool / alone
        );
    }
}

/// What a pool did: actions, and where episodes began anew.
struct Play {
    actions: Vec<Vec<f32>>,
    /// Positions and velocities of all environments, or after a step of those that began anew.
    starts: Vec<Vec<Option<Vec<f64>>>>,
}

impl Play {
    fn record(id: &str) -> Self {
        // With nothing left out an observation begins with the whole state.
        let kwargs = Kwargs::from([("exclude_current_positions_from_observation".to_owned(), false.into())]);
        let mut pool = make(id, &kwargs, NUM_ENVS).expect("the id is native");
        let mut batch = StepBatch::new(pool.spec(), NUM_ENVS);
        pool.reset(0, &mut batch.observations).expect("a native pool resets");
        let width = pool.spec().observation_width();
        let state = |batch: &StepBatch, env: usize| {
            batch.observations[env * width..][..width].iter().map(|value| f64::from(*value)).collect()
        };
        let mut starts = vec![(0..NUM_ENVS).map(|env| Some(state(&batch, env))).collect::<Vec<_>>()];
        let actions = random_actions(&pool.spec().action);
        for action in &actions {
            pool.step(action, &mut batch).expect("the actions are in bounds");
            let begun = |env: usize| (batch.phases[env] != Phase::Running).then(|| state(&batch, env));
            starts.push((0..NUM_ENVS).map(begun).collect());
        }
        Self { actions, starts }
    }
}

fn random_actions(space: &ActionSpace) -> Vec<Vec<f32>> {
    let ActionSpace::Box { low, high } = space else { panic!("MuJoCo's actions are boxes") };
    let mut rng = episode_rng(0, 0);
    let mut draw = || low.iter().zip(high).map(|(low, high)| rng.gen_range(*low..=*high)).collect::<Vec<_>>();
    (0..STEPS).map(|_| (0..NUM_ENVS).flat_map(|_| draw()).collect()).collect()
}

fn pool_secs(id: &str, play: &Play) -> f64 {
    let mut pool = make(id, &Kwargs::new(), NUM_ENVS).expect("the id is native");
    let mut batch = StepBatch::new(pool.spec(), NUM_ENVS);
    pool.reset(0, &mut batch.observations).expect("a native pool resets");
    let begun = Instant::now();
    for action in &play.actions {
        pool.step(action, &mut batch).expect("the actions are in bounds");
    }
    begun.elapsed().as_secs_f64()
}

fn bare_secs(threads: &ThreadPool, model: &Arc<MjModel>, frame_skip: usize, play: &Play) -> f64 {
    let mut lanes: Vec<_> = (0..NUM_ENVS).map(|_| MjData::new(model.clone())).collect();
    let begin = |data: &mut MjData<Arc<MjModel>>, state: &[f64]| {
        data.reset();
        let positions = data.qpos().len();
        data.qpos_mut().copy_from_slice(&state[..positions]);
        let velocities = data.qvel().len();
        data.qvel_mut().copy_from_slice(&state[positions..][..velocities]);
        data.forward();
    };
    let first = play.starts[0].iter().flatten();
    lanes.iter_mut().zip(first).for_each(|(data, state)| begin(data, state));

    let begun = Instant::now();
    threads.install(|| {
        for (action, starts) in play.actions.iter().zip(&play.starts[1..]) {
            let width = action.len() / NUM_ENVS;
            let rows = lanes.par_iter_mut().zip(action.par_chunks(width)).zip(starts);
            rows.with_max_len(1).for_each(|((data, action), start)| {
                for (control, value) in data.ctrl_mut().iter_mut().zip(action) {
                    *control = f64::from(*value);
                }
                for _ in 0..frame_skip {
                    data.step();
                }
                if let Some(state) = start {
                    begin(data, state);
                }
            });
        }
    });
    begun.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
