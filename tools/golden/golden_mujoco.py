"""Records what Gymnasium's MuJoCo environments do, for the Rust ones to be compared with.

Writes one file an environment into envs/tests/golden/mujoco: for each play its kwargs, positions and
velocities at the start, actions, and what was shown, earned and ended; and how the first observations
of many episodes are spread. Wide observations are thinned to every tenth. Needs gymnasium 1.4, mujoco 3.17.0 and safetensors; run it from the repository root:
python tools/golden/golden_mujoco.py
"""

import json
import math
import pathlib

import gymnasium
import mujoco
import numpy as np
from safetensors.numpy import save_file

OUT = pathlib.Path("envs/tests/golden/mujoco")
STEPS, SHORT = 200, 30
STARTS = 1000
WIDE = 200

# Beyond the defaults. None in a range is no bound, as JSON has no infinity.
PLAIN = {"exclude_current_positions_from_observation": False}
PLAYS = {
    "Ant-v5": [
        {**PLAIN, "forward_reward_weight": 2.0, "ctrl_cost_weight": 0.3, "healthy_reward": 0.7},
        {"contact_cost_weight": 0.02, "contact_force_range": [-0.2, 0.5], "main_body": "aux_1", "frame_skip": 3},
        {"healthy_z_range": [0.5, 0.6], "include_cfrc_ext_in_observation": False, "main_body": 4},
        {"terminate_when_unhealthy": False, "healthy_z_range": [0.7, None]},
    ],
    "HalfCheetah-v5": [{**PLAIN, "forward_reward_weight": 0.5, "ctrl_cost_weight": 0.4, "frame_skip": 2}],
    "Hopper-v5": [
        {**PLAIN, "forward_reward_weight": 1.5, "ctrl_cost_weight": 0.02, "healthy_reward": 2.0, "frame_skip": 2},
        {"healthy_state_range": [-2.0, 2.0], "healthy_z_range": [None, None], "healthy_angle_range": [-0.1, 0.5]},
        {"terminate_when_unhealthy": False, "healthy_z_range": [1.2, 1.3]},
    ],
    "Humanoid-v5": [
        {**PLAIN, "forward_reward_weight": 2.0, "ctrl_cost_weight": 0.2, "healthy_reward": 1.0, "frame_skip": 3},
        {"contact_cost_weight": 1e-3, "contact_cost_range": [0.1, 2.0], "healthy_z_range": [1.3, 1.4]},
        {"include_cinert_in_observation": False, "include_cfrc_ext_in_observation": False},
        {"include_cvel_in_observation": False, "include_qfrc_actuator_in_observation": False},
        {"terminate_when_unhealthy": False, "healthy_z_range": [1.41, None]},
    ],
    "HumanoidStandup-v5": [
        {**PLAIN, "uph_cost_weight": 2.0, "ctrl_cost_weight": 0.2, "frame_skip": 3},
        {"impact_cost_weight": 1e-3, "impact_cost_range": [0.5, 3.0]},
        {"include_cinert_in_observation": False, "include_cfrc_ext_in_observation": False},
        {"include_cvel_in_observation": False, "include_qfrc_actuator_in_observation": False},
    ],
    "InvertedDoublePendulum-v5": [{"healthy_reward": 3.0, "frame_skip": 2}],
    "InvertedPendulum-v5": [{"frame_skip": 5}],
    "Pusher-v5": [
        {"reward_near_weight": 0.2, "reward_dist_weight": 3.0, "reward_control_weight": 0.7, "frame_skip": 2},
        {"xml_file": "pusher.xml"},
    ],
    "Reacher-v5": [{"reward_dist_weight": 0.3, "reward_control_weight": 2.0, "frame_skip": 3}],
    "Swimmer-v5": [{**PLAIN, "forward_reward_weight": 3.0, "ctrl_cost_weight": 0.05, "frame_skip": 2}],
    "Walker2d-v5": [
        {**PLAIN, "forward_reward_weight": 1.5, "ctrl_cost_weight": 0.02, "healthy_reward": 2.0, "frame_skip": 2},
        {"healthy_z_range": [1.2, None], "healthy_angle_range": [-0.05, 0.3]},
        {"terminate_when_unhealthy": False, "xml_file": "walker2d.xml"},
    ],
}


def as_gymnasium(value):
    """A range's missing bounds as infinities."""
    if not isinstance(value, list):
        return value
    return tuple(side if side is not None else sign * math.inf for side, sign in zip(value, (-1, 1)))


def record(env_id, kwargs, steps, seed):
    env = gymnasium.make(env_id, **{name: as_gymnasium(value) for name, value in kwargs.items()})
    env.reset(seed=seed)
    inner, rng = env.unwrapped, np.random.default_rng(seed)
    qpos, qvel = inner.data.qpos.copy(), inner.data.qvel.copy()
    if seed % 2:  # farther from the model's own pose than a reset goes
        qvel += rng.normal(scale=0.5, size=qvel.shape)
    # Starts have no past: neither forces nor a solution to begin the next from.
    mujoco.mj_resetData(inner.model, inner.data)
    inner.set_state(qpos, qvel)
    tensors = {"qpos": qpos, "qvel": qvel, "start": inner._get_obs()}
    low, high = env.action_space.low, env.action_space.high
    actions = rng.uniform(low, high, size=(steps, len(low))).astype(np.float32)
    played = [inner.step(action) for action in actions]
    shown = np.array([step[0] for step in played])
    every = 10 if shown.shape[1] > WIDE else 1
    tensors |= {
        "actions": actions,
        "observations": shown[every - 1 :: every],
        "rewards": np.array([step[1] for step in played], dtype=np.float64),
        "terminated": np.array([step[2] for step in played], dtype=np.uint8),
    }
    return {name: np.ascontiguousarray(value) for name, value in tensors.items()}


def spread(env_id):
    """Of each number of a first observation: mean, deviation, least and greatest."""
    env = gymnasium.make(env_id)
    shown = np.array([env.reset(seed=seed)[0] for seed in range(STARTS)])
    return np.array([shown.mean(0), shown.std(0), shown.min(0), shown.max(0)])


def main():
    assert mujoco.__version__ == "3.17.0" and gymnasium.__version__ == "1.4.0"
    OUT.mkdir(parents=True, exist_ok=True)
    for number, (env_id, variants) in enumerate(PLAYS.items()):
        tensors, plays = {"starts": spread(env_id)}, [{}, *variants]
        for i, kwargs in enumerate(plays):
            played = record(env_id, kwargs, SHORT if i else STEPS, 100 * number + i)
            tensors |= {f"{i}.{name}": value for name, value in played.items()}
        spec = gymnasium.spec(env_id)
        metadata = {
            "kwargs": json.dumps(plays),
            "max_episode_steps": json.dumps(spec.max_episode_steps),
            "reward_threshold": json.dumps(spec.reward_threshold),
        }
        path = OUT / f"{env_id}.safetensors"
        save_file(tensors, path, metadata)
        ends = [int(tensors[f"{i}.terminated"].sum()) for i in range(len(plays))]
        print(f"{path}: {path.stat().st_size} bytes, steps after the end: {ends}")


if __name__ == "__main__":
    main()
