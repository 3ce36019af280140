//! The MuJoCo tasks against what Gymnasium 1.4 recorded (`tools/golden/golden_mujoco.py`), step by step.

use std::collections::HashMap;
use std::path::PathBuf;

use eva_rl_envs::mujoco::{self, MujocoTask, Rules};
use eva_rl_envs::{EnvError, Kwargs, NativeTask, Phase, Task, episode_rng, scripted, spec, task};
use safetensors::SafeTensors;
use serde_json::{Value, json};

const TOLERANCE: f64 = 1e-9;

/// What Gymnasium did in one play.
struct Play {
    kwargs: Kwargs,
    state: Vec<f64>,
    start: Vec<f64>,
    actions: Vec<f32>,
    /// One row in every so many steps.
    observations: Vec<f64>,
    rewards: Vec<f64>,
    terminated: Vec<u8>,
}

/// The plays of a task, how its starts are spread, and what Gymnasium says of it.
fn recorded(id: &str) -> (Vec<Play>, Vec<f64>, HashMap<String, String>) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/mujoco/{id}.safetensors"));
    let bytes = std::fs::read(path).expect("the fixture is in the repository");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("the fixture is safetensors");
    let metadata = header.metadata().clone().expect("the fixture has metadata");
    let tensors = SafeTensors::deserialize(&bytes).expect("the fixture is safetensors");

    let kwargs: Vec<Kwargs> = serde_json::from_str(&metadata["kwargs"]).expect("kwargs are tables");
    let plays = kwargs.into_iter().enumerate().map(|(i, kwargs)| {
        let bytes = |name: &str| tensors.tensor(&format!("{i}.{name}")).expect("a play is whole").data();
        let floats = |name: &str| floats(bytes(name));
        let (actions, _) = bytes("actions").as_chunks::<4>();
        Play {
            kwargs,
            state: [floats("qpos"), floats("qvel")].concat(),
            start: floats("start"),
            actions: actions.iter().map(|number| f32::from_le_bytes(*number)).collect(),
            observations: floats("observations"),
            rewards: floats("rewards"),
            terminated: bytes("terminated").to_vec(),
        }
    });
    let starts = floats(tensors.tensor("starts").expect("the fixture has starts").data());
    (plays.collect(), starts, metadata)
}

/// Numbers as a fixture holds them.
fn floats(bytes: &[u8]) -> Vec<f64> {
    let (numbers, _) = bytes.as_chunks::<8>();
    numbers.iter().map(|number| f64::from_le_bytes(*number)).collect()
}

#[track_caller]
fn check_close(place: &str, what: &str, ours: f64, theirs: f64) {
    let bound = TOLERANCE * theirs.abs().max(1.0);
    assert!((ours - theirs).abs() <= bound, "{place}: {what} {ours}, not {theirs}");
}

#[track_caller]
fn check<R: Rules>(id: &str, least_steps: usize) {
    let (plays, starts, metadata) = recorded(id);
    check_starts::<R>(id, &starts);
    assert_eq!(R::FACTS.id, id);
    assert_eq!(R::FACTS.max_episode_steps.to_string(), metadata["max_episode_steps"], "step limit");
    let threshold: Option<f64> = serde_json::from_str(&metadata["reward_threshold"]).expect("it is JSON");
    assert_eq!(R::FACTS.reward_threshold, threshold, "reward threshold");

    for (number, play) in plays.iter().enumerate() {
        let mut task = MujocoTask::<R>::new(&play.kwargs).expect("the kwargs are the task's");
        let width = task.spec().observation_width();
        assert_eq!(width, play.start.len(), "{id}, play {number}: width of the observation");
        let mut row = vec![0.0; width];
        let check_row = |place: &str, shown: &[f64], row: &[f32], theirs: &[f64]| {
            for (i, (shown, theirs)) in shown.iter().zip(theirs).enumerate() {
                check_close(place, &format!("number {i} is"), *shown, *theirs);
                assert_eq!(*shown as f32, row[i], "{place}");
            }
        };
        task.set_state(&play.state, &mut row);
        check_row(&format!("{id}, play {number}, start"), task.exact_observation(), &row, &play.start);

        let steps = play.rewards.len();
        assert!(number > 0 || steps >= least_steps);
        let every = steps * width / play.observations.len();
        let actions = play.actions.chunks_exact(play.actions.len() / steps);
        for (step, action) in actions.enumerate() {
            let place = format!("{id}, play {number}, step {step}");
            let stepped = task.step(action, &mut row);
            check_close(&place, "it earns", task.exact_reward(), play.rewards[step]);
            assert_eq!(stepped.reward, task.exact_reward() as f32, "{place}");
            assert_eq!(stepped.phase == Phase::Terminated, play.terminated[step] == 1, "{place}: terminated");
            if (step + 1) % every == 0 {
                let theirs = &play.observations[(step / every) * width..][..width];
                check_row(&place, task.exact_observation(), &row, theirs);
            }
        }
    }
}

/// Compares 1000 first observations of ours with as many of Gymnasium's, number by number.
#[track_caller]
fn check_starts<R: Rules>(id: &str, theirs: &[f64]) {
    const COUNT: u16 = 1000;
    let mut task = MujocoTask::<R>::new(&Kwargs::new()).expect("it takes no kwargs");
    let width = task.spec().observation_width();
    let mut row = vec![0.0; width];
    let mut shown = vec![Vec::new(); width];
    for episode in 0..COUNT {
        task.reset(&mut episode_rng(0, u64::from(episode)), &mut row);
        shown.iter_mut().zip(task.exact_observation()).for_each(|(shown, value)| shown.push(*value));
    }
    for (i, values) in shown.iter().enumerate() {
        let [mean, deviation, least, greatest] = std::array::from_fn(|row| theirs[row * width + i]);
        let our_mean = values.iter().sum::<f64>() / f64::from(COUNT);
        let squares = values.iter().map(|value| (value - our_mean).powi(2));
        let our_deviation = (squares.sum::<f64>() / f64::from(COUNT)).sqrt();
        let range = values.iter().fold(f64::NEG_INFINITY, |most, value| most.max(*value))
            - values.iter().fold(f64::INFINITY, |least, value| least.min(*value));
        let place = format!("{id}, number {i} of a start");
        // Six standard errors of a difference; numbers that never vary are equal.
        let bound = 6.0 * deviation * (2.0 / f64::from(COUNT)).sqrt() + TOLERANCE;
        assert!((our_mean - mean).abs() <= bound, "{place}: mean {our_mean}, not {mean}");
        let close = |ours: f64, theirs: f64, share: f64| (ours - theirs).abs() <= share * theirs + TOLERANCE;
        assert!(close(our_deviation, deviation, 0.2), "{place}: deviation {our_deviation}, not {deviation}");
        // The range tells a uniform number from a normal one, whose range here is about twice as wide.
        assert!(close(range, greatest - least, 0.35), "{place}: range {range}, not {}", greatest - least);
    }
}

#[test]
fn ant_is_gymnasiums() {
    check::<mujoco::Ant>("Ant-v5", 200);
}

#[test]
fn half_cheetah_is_gymnasiums() {
    check::<mujoco::HalfCheetah>("HalfCheetah-v5", 200);
}

#[test]
fn hopper_is_gymnasiums() {
    check::<mujoco::Hopper>("Hopper-v5", 200);
}

#[test]
fn humanoid_is_gymnasiums() {
    check::<mujoco::Humanoid>("Humanoid-v5", 200);
}

#[test]
fn humanoid_standup_is_gymnasiums() {
    check::<mujoco::HumanoidStandup>("HumanoidStandup-v5", 200);
}

#[test]
fn inverted_double_pendulum_is_gymnasiums() {
    check::<mujoco::InvertedDoublePendulum>("InvertedDoublePendulum-v5", 200);
}

#[test]
fn inverted_pendulum_is_gymnasiums() {
    check::<mujoco::InvertedPendulum>("InvertedPendulum-v5", 200);
}

#[test]
fn pusher_is_gymnasiums() {
    check::<mujoco::Pusher>("Pusher-v5", 200);
}

#[test]
fn reacher_is_gymnasiums() {
    check::<mujoco::Reacher>("Reacher-v5", 200);
}

#[test]
fn swimmer_is_gymnasiums() {
    check::<mujoco::Swimmer>("Swimmer-v5", 200);
}

#[test]
fn walker2d_is_gymnasiums() {
    check::<mujoco::Walker2d>("Walker2d-v5", 200);
}

#[track_caller]
fn check_refused(id: &str, kwargs: Value, sentence: &str) {
    let kwargs: Kwargs = serde_json::from_value(kwargs).expect("kwargs are a table");
    let error = spec(id, &kwargs).expect_err("it is refused");
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn a_kwarg_out_of_its_range_is_refused() {
    check_refused(
        "Hopper-v5",
        json!({"frame_skip": 0}),
        "kwarg `frame_skip` of `Hopper-v5` is 0; it must be a whole number from 1 to 65535",
    );
    check_refused(
        "Hopper-v5",
        json!({"reset_noise_scale": -0.1}),
        "kwarg `reset_noise_scale` of `Hopper-v5` is -0.1; it must be a number of at least 0",
    );
    check_refused(
        "Walker2d-v5",
        json!({"healthy_z_range": [2.0, 1.0]}),
        "kwarg `healthy_z_range` of `Walker2d-v5` is [2.0,1.0]; it must be two numbers, the lesser first, or null for a side without a bound",
    );
    check_refused(
        "Ant-v5",
        json!({"main_body": "wing"}),
        "the model \"ant.xml\" of `Ant-v5` has no body `wing`",
    );
    check_refused(
        "Ant-v5",
        json!({"main_body": 14}),
        "kwarg `main_body` of `Ant-v5` is 14; it must be the number of one of the model's bodies, or its name",
    );
    check_refused(
        "Swimmer-v5",
        json!({"healthy_reward": 1}),
        "`Swimmer-v5` has no kwarg `healthy_reward`; it takes `xml_file`, `frame_skip`, `forward_reward_weight`, `ctrl_cost_weight`, `reset_noise_scale`, `exclude_current_positions_from_observation`, `render_mode`, `width`, `height`, `default_camera_config`, `camera_id`, `camera_name`",
    );
}

#[test]
fn pictures_are_asked_for_as_in_gymnasium() {
    check_refused(
        "Hopper-v5",
        json!({"render_mode": "human"}),
        "kwarg `render_mode` of `Hopper-v5` is \"human\"; it must be \"rgb_array\" or null",
    );
    check_refused(
        "Hopper-v5",
        json!({"camera_name": "front"}),
        "kwarg `camera_name` of `Hopper-v5` is \"front\"; it must be the name of a camera of the model",
    );
    check_refused(
        "Hopper-v5",
        json!({"default_camera_config": {"distance": 0}}),
        "kwarg `default_camera_config` of `Hopper-v5` is {\"distance\":0}; it must be a table of numbers for `distance`, `azimuth`, `elevation` and `trackbodyid`, and three for `lookat`",
    );
    let drawn = |kwargs: Value| {
        let kwargs: Kwargs = serde_json::from_value(kwargs).expect("kwargs are a table");
        let task = task("Hopper-v5", &kwargs).expect("the kwargs are the task's");
        task.render().expect("a MuJoCo task draws")
    };
    let wide = drawn(json!({"width": 60, "height": 40, "render_mode": "rgb_array"}));
    assert_eq!((wide.width, wide.height, wide.rgb.len()), (60, 40, 7200));
    let near =
        json!({"width": 60, "height": 40, "default_camera_config": {"distance": 1.0, "lookat": [0, 0, 1]}});
    assert_ne!(wide, drawn(near));
    assert_ne!(wide, drawn(json!({"width": 60, "height": 40, "camera_name": "track"})));
    assert_eq!(
        drawn(json!({"width": 60, "height": 40, "camera_id": 0})),
        drawn(json!({"width": 60, "height": 40, "camera_name": "track"}))
    );
}

/// Asks for Hopper with a model that a user has written.
#[track_caller]
fn check_model(xml: &str, problem: &str) {
    let folder = std::env::temp_dir().join(format!("eva-rl-mujoco-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
    let path = folder.join("model.xml");
    std::fs::write(&path, xml).expect("a temporary file can be written");
    let refused = spec("Hopper-v5", &Kwargs::from([("xml_file".to_owned(), json!(path))]));
    std::fs::remove_dir_all(&folder).expect("a temporary folder can be removed");
    let sentence = refused.expect_err("it is refused").to_string();
    let sentence = sentence.replace(&path.display().to_string(), "model.xml");
    // MuJoCo's own words are cut to 100 characters.
    let wanted = format!("the model \"model.xml\" of `Hopper-v5` {problem}");
    assert!(sentence.starts_with(&wanted), "{sentence}");
}

#[test]
fn a_model_that_is_none_is_refused() {
    check_refused(
        "Hopper-v5",
        json!({"xml_file": "no-such.xml"}),
        "kwarg `xml_file` of `Hopper-v5` is \"no-such.xml\"; it must be the path of a file, or the name of a model of Gymnasium's",
    );
    check_refused(
        "Hopper-v5",
        json!({"xml_file": "reacher\u{0}.xml"}),
        "kwarg `xml_file` of `Hopper-v5` is \"reacher\\u0000.xml\"; it must be the path of a file, or the name of a model of Gymnasium's",
    );
    check_refused(
        "Humanoid-v5",
        json!({"xml_file": "reacher.xml"}),
        "the model \"reacher.xml\" of `Humanoid-v5` has 4 positions and 4 velocities; it must have at least 3 and 6",
    );
    check_refused(
        "Reacher-v5",
        json!({"xml_file": "hopper.xml"}),
        "the model \"hopper.xml\" of `Reacher-v5` has 6 positions and 6 velocities; it must have 4 and 4",
    );
    check_model("", "cannot be loaded: ParseXML: empty file 'model.xml'");
    check_model("<mujoco><worldbody><body></mujoco>", "cannot be loaded: XML parse error 14");
    let massless = "<mujoco><worldbody><body><joint type='slide'/></body></worldbody></mujoco>";
    check_model(massless, "cannot be loaded: Error: ");
    check_model("<mujoco/>", "has 0 positions and 0 velocities; it must have at least 3 and 1");
    check_model(
        "<mujoco><size memory='10K'/></mujoco>",
        "asks for 10240 bytes of memory; it must ask for at least 1048576",
    );
    let joints = "<joint type='slide'/><joint type='slide' axis='1 0 0'/><joint name='turn'/>";
    let body = format!("<worldbody><body>{joints}<geom size='.1'/></body></worldbody>");
    check_model(&format!("<mujoco>{body}</mujoco>"), "has no actuators; it must have at least 1");
    check_model(
        &format!("<mujoco>{body}<actuator><motor joint='turn'/></actuator></mujoco>"),
        "gives actuator 0 no range of controls; it must",
    );
}

#[test]
fn a_task_without_a_controller_says_what_can_act() {
    let error = scripted("Pusher-v5", &Kwargs::new()).err().expect("it is refused");
    assert!(matches!(error, EnvError::NoController { .. }));
    assert_eq!(
        error.to_string(),
        "`Pusher-v5` has no scripted controller; `random` or a policy can act in it"
    );
}

#[test]
fn a_simulation_that_grows_unstable_goes_on_and_leaves_no_log() {
    let mut task = task("Walker2d-v5", &Kwargs::new()).expect("the id is native");
    let mut row = vec![0.0; task.spec().observation_width()];
    let wild: Vec<f64> = (0..18).map(|i| if i < 9 { 0.0 } else { 1e11 }).collect();
    task.set_state(&wild, &mut row);
    for _ in 0..3 {
        task.step(&[1.0; 6], &mut row);
    }
    assert!(row.iter().all(|value| value.is_finite()), "{row:?}");
    assert!(!std::path::Path::new("MUJOCO_LOG.TXT").exists());
}

#[test]
fn reference_scores_are_of_the_rewards_that_they_were_measured_with() {
    let reference = |kwargs: Value| {
        let kwargs: Kwargs = serde_json::from_value(kwargs).expect("kwargs are a table");
        spec("Hopper-v5", &kwargs).expect("the kwargs are the task's").reference
    };
    assert!(reference(json!({})).is_some());
    assert!(reference(json!({"width": 64})).is_some());
    assert!(reference(json!({"healthy_reward": 2.0})).is_none());
}
