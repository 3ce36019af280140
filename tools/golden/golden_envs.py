"""Records what Gymnasium's classic control environments do, for the Rust ones to be compared with.

Writes one file an environment into envs/tests/golden/classic. Needs gymnasium 1.4 and numpy; run it from
the repository root: python tools/golden/golden_envs.py
"""

import json
import math
import pathlib

import gymnasium
import numpy as np

OUT = pathlib.Path("envs/tests/golden/classic")


class Play:
    """One episode: states put into the environment at given steps, and what came of random play."""

    def __init__(self, placements, steps, action=None, kwargs=None):
        self.placements = placements  # {step: state}, step 0 included
        self.steps = steps
        self.action = action  # None: uniformly random
        self.kwargs = kwargs or {}


def numbers(values):
    """The shortest decimals that read back as the same f32."""
    return [float(str(np.float32(value))) for value in np.ravel(values)]


def record(env_id, play, rng):
    env = gymnasium.make(env_id, **play.kwargs)
    env.reset(seed=0)
    dtype = np.float32 if env_id == "MountainCarContinuous-v0" else np.float64
    episode = {
        "kwargs": play.kwargs,
        "placements": [[step, [float(dtype(x)) for x in state]] for step, state in play.placements.items()],
        "actions": [],
        "observations": [],
        "rewards": [],
        "terminated": [],
        "truncated": [],
    }
    for step in range(play.steps):
        if step in play.placements:
            env.unwrapped.state = np.array(play.placements[step], dtype=dtype)
        if isinstance(env.action_space, gymnasium.spaces.Discrete):
            action = int(rng.integers(env.action_space.n)) if play.action is None else play.action(step)
            episode["actions"].append([action])
        else:
            space = env.action_space
            action = rng.uniform(space.low, space.high) if play.action is None else np.array([play.action(step)])
            action = np.array(numbers(action), dtype=np.float32)
            episode["actions"].append(numbers(action))
        observation, reward, terminated, truncated, _ = env.step(action)
        episode["observations"].append(numbers(observation))
        episode["rewards"].append(round(float(reward), 9))
        if terminated:
            episode["terminated"].append(step)
        if truncated:
            episode["truncated"].append(step)
        if terminated or truncated:
            break
    return episode


def cart_pole():
    balance = lambda step: step % 2  # alternating pushes hold a pole that stands for a while
    starts = [
        [0.01, -0.02, 0.03, 0.04],
        [2.39, 1.5, 0.0, 0.0],  # leaves the track to the right
        [-2.35, -1.5, 0.0, 0.0],
        [0.0, 0.0, 0.2094, 0.1],  # falls
        [0.0, 0.0, -0.2, -0.1],
        [0.0, 0.0, 0.15, 1.7],
    ]
    held = {step: [0.0, 0.0, 0.001, 0.0] for step in range(0, 500, 25)}
    for sutton_barto in (False, True):
        kwargs = {"sutton_barto_reward": sutton_barto}
        for start in starts:
            yield Play({0: start}, 60, kwargs=kwargs)
        yield Play(held, 500, balance, kwargs)
        # Falls in the very step that reaches the limit: both flags.
        yield Play({**held, 499: [0.0, 0.0, 0.209, 1.0]}, 500, balance, kwargs)


def pendulum():
    for g in (10.0, 4.5):
        for state in ([math.pi, 0.0], [0.05, 0.1], [-3.1, -7.9], [2.0, 7.99], [9.5, 1.0]):
            yield Play({0: state}, 200, kwargs={"g": g})
        for torque in (-2.0, 2.0, 0.0):
            yield Play({0: [1.0, -1.0]}, 60, lambda _, torque=torque: torque, {"g": g})


def mountain_car():
    starts = [
        [-1.19, -0.05],  # hits the wall
        [-0.5, 0.07],
        [0.49, 0.02],  # arrives
        [0.45, 0.069],
        [0.4999, 0.0],
    ]
    for goal_velocity in (0.0, 0.03):
        kwargs = {"goal_velocity": goal_velocity}
        for start in starts:
            yield Play({0: start}, 40, kwargs=kwargs)
        yield Play({0: [-0.55, 0.0]}, 200, kwargs=kwargs)
        yield Play({0: [-0.41, 0.0]}, 200, lambda step: (step // 20) % 2 * 2, kwargs)
        yield Play({0: [-0.5, 0.0], 199: [0.49, 0.06]}, 200, kwargs=kwargs)


def mountain_car_continuous():
    starts = [[-1.19, -0.05], [-0.5, 0.07], [0.44, 0.02], [0.41, 0.069], [0.449, 0.0]]
    for goal_velocity in (0.0, 0.03):
        kwargs = {"goal_velocity": goal_velocity}
        for start in starts:
            yield Play({0: start}, 40, kwargs=kwargs)
        yield Play({0: [-0.41, 0.0]}, 300, lambda step: (step // 25) % 2 * 2.0 - 1.0, kwargs)
        yield Play({0: [-0.5, 0.0], 998: [0.44, 0.06]}, 999, kwargs=kwargs)
    yield Play({0: [-0.55, 0.0]}, 999)


def acrobot():
    starts = [
        [0.05, -0.05, 0.1, 0.0],
        [0.3, 3.1, 0.5, 6.0],  # wraps round
        [-0.4, -3.1, -0.5, -6.0],
        [0.3, 0.2, 12.5, 28.2],  # reaches both bounds on the rates
        [-0.3, 0.1, -12.5, -28.2],
        [2.0, 0.2, 0.5, 0.5],  # about to arrive
        [1.5, 1.0, 1.0, 1.0],
    ]
    for start in starts:
        yield Play({0: start}, 40)
    yield Play({0: [0.01, 0.02, 0.03, -0.04]}, 500)
    yield Play({0: [-0.1, 0.1, 0.1, 0.1]}, 500, lambda step: (step // 4) % 3)
    yield Play({0: [0.0, 0.0, 0.0, 0.0], 499: [2.0, 0.4, 1.0, 0.5]}, 500)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    plays = {
        "CartPole-v1": cart_pole,
        "Pendulum-v1": pendulum,
        "MountainCar-v0": mountain_car,
        "MountainCarContinuous-v0": mountain_car_continuous,
        "Acrobot-v1": acrobot,
    }
    for env_id, make_plays in plays.items():
        rng = np.random.default_rng(7)
        spec = gymnasium.spec(env_id)
        document = {
            "id": env_id,
            "gymnasium": gymnasium.__version__,
            "max_episode_steps": spec.max_episode_steps,
            "reward_threshold": spec.reward_threshold,
            "episodes": [record(env_id, play, rng) for play in make_plays()],
        }
        path = OUT / f"{env_id}.json"
        path.write_text(json.dumps(document, separators=(",", ":")) + "\n")
        ends = [(len(e["rewards"]), e["terminated"][-3:], e["truncated"]) for e in document["episodes"]]
        print(f"{path}: {path.stat().st_size} bytes; steps, terminated, truncated: {ends}")


if __name__ == "__main__":
    main()
