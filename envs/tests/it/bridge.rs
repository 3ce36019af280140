//! Environments in Python workers.

use eva_rl_envs::{Kwargs, Phase, StepBatch, make};

#[test]
fn cart_pole_falls_in_a_worker() {
    let mut pool = make("gymnasium:CartPole-v1", &Kwargs::new(), 3).unwrap();
    let mut batch = StepBatch::new(pool.spec(), 3);
    pool.reset(0, &mut batch.observations).unwrap();
    let mut steps = 0;
    while batch.phases[0] == Phase::Running {
        pool.step(&[1.0; 3], &mut batch).unwrap();
        steps += 1;
    }
    assert_eq!(batch.phases[0], Phase::Terminated);
    assert!((8..12).contains(&steps), "{steps}");
    assert!(batch.final_observations[2].abs() > 0.2);
    assert!(batch.observations[2].abs() < 0.05);
    println!("{:?} {:?}", pool.spec(), batch);
}
