"""Make the fixtures under tests/golden/envs with Gymnasium.

Needs gymnasium 1.4.0 and numpy. Run from the repository's root:
    python tools/golden_envs.py
Each file holds trajectories: the options, the state that was injected, the actions, and after every
step the physical state, the observation, the reward, terminated, and truncated.
"""

import json
from pathlib import Path

import gymnasium
import numpy as np

ROOT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "envs"
PI = float(np.pi)

# id: [(options, injected state, steps)]; a trajectory also ends where the task does.
TRAJECTORIES = {
    "CartPole-v1": [
        ({}, [0.01, -0.02, 0.03, 0.04], 60),
        ({}, [2.39, 1.5, 0.0, 0.0], 20),
        ({}, [0.0, 0.0, 0.2, 1.0], 20),
        ({}, [-2.3, -2.0, -0.2, -1.0], 20),
        ({"sutton_barto_reward": True}, [0.0, 0.0, 0.15, 1.0], 20),
    ],
    "Pendulum-v1": [
        ({}, [PI, 0.0], 200),
        ({}, [0.3, 7.9], 60),
        ({"g": 14.0}, [-2.0, -7.5], 200),
        ({"g": 2.5}, [9.0, 1.0], 60),
    ],
    "MountainCar-v0": [
        ({}, [-0.5, 0.0], 200),
        ({}, [-1.19, -0.069], 40),
        ({}, [0.45, 0.06], 20),
        ({"goal_velocity": 0.05}, [0.49, 0.03], 20),
    ],
    "MountainCarContinuous-v0": [
        ({}, [-0.5, 0.0], 999),
        ({}, [-1.19, -0.069], 40),
        ({}, [0.42, 0.05], 20),
        ({"goal_velocity": 0.06}, [0.44, 0.05], 20),
    ],
    "Acrobot-v1": [
        ({}, [0.05, -0.02, 0.0, 0.03], 80),
        ({}, [3.0, -0.1, 12.0, -25.0], 40),
        ({}, [2.0, 0.5, 3.0, 0.0], 40),
    ],
}


def play(env_id, options, state, steps, rng):
    env = gymnasium.make(env_id, **options)
    env.reset(seed=0)
    env.unwrapped.state = np.array(state, dtype=np.float64)
    rows = {"states": [], "observations": [], "actions": [], "rewards": [], "terminated": [], "truncated": []}
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    for step in range(steps):
        if discrete:
            action = int(rng.integers(env.action_space.n))
            row = [action]
        else:
            low, high = env.action_space.low, env.action_space.high
            action = rng.uniform(low, high).astype(np.float32)
            if step % 7 == 0:
                action = (high if step % 2 else low).copy()
            row = [float(x) for x in action]
        observation, reward, terminated, truncated, _ = env.step(action)
        rows["actions"].append(row)
        rows["states"].append([float(x) for x in env.unwrapped.state])
        rows["observations"].append([float(x) for x in observation])
        rows["rewards"].append(float(reward))
        rows["terminated"].append(bool(terminated))
        rows["truncated"].append(bool(truncated))
        if terminated or truncated:
            break
    return {"options": options, "start": state, **rows}


def main():
    ROOT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    for env_id, trajectories in TRAJECTORIES.items():
        spec = gymnasium.spec(env_id)
        env = gymnasium.make(env_id)
        document = {
            "id": env_id,
            "max_episode_steps": spec.max_episode_steps,
            "reward_threshold": spec.reward_threshold,
            "observation_low": [float(x) for x in env.observation_space.low],
            "observation_high": [float(x) for x in env.observation_space.high],
            "trajectories": [play(env_id, *trajectory, rng) for trajectory in trajectories],
        }
        text = json.dumps(document).replace("-Infinity", "null").replace("Infinity", "null")
        (ROOT / f"{env_id}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
