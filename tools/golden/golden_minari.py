"""Make the fixtures under tests/golden/minari with Python's minari.

Needs minari 0.5.4 with hdf5 and gymnasium 1.4.0. Run from the repository's root:
    python tools/golden/golden_minari.py
"""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "minari"
os.environ["MINARI_DATASETS_PATH"] = str(ROOT)

import gymnasium  # noqa: E402
import minari  # noqa: E402


def make(dataset_id, env_id, episodes, **kwargs):
    env = minari.DataCollector(gymnasium.make(env_id, **kwargs))
    env.action_space.seed(3)
    for episode in range(episodes):
        env.reset(seed=episode)
        while True:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                break
    env.create_dataset(dataset_id, algorithm_name="random", author="eva-rl", code_permalink="tools/golden/golden_minari.py")


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    make("cartpole/random-v0", "CartPole-v1", 4)
    make("pendulum/heavy-v0", "Pendulum-v1", 2, g=14.0, max_episode_steps=20)


if __name__ == "__main__":
    main()
