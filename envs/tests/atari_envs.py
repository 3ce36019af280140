"""Atari by ale-py, as the field plays it, for `tests/bridge.rs`; docs/environments.md shows the same."""

import ale_py
import gymnasium
from gymnasium.wrappers import AtariPreprocessing, ClipReward, FrameStackObservation

gymnasium.register_envs(ale_py)


def atari(game, clip=False, **kwargs):
    """Four frames of 84 × 84 greys, each the maximum of the last two of four; up to thirty no-ops at the start."""
    env = gymnasium.make(f"ALE/{game}-v5", frameskip=1, **kwargs)
    env = FrameStackObservation(AtariPreprocessing(env), 4)
    return ClipReward(env, -1, 1) if clip else env


gymnasium.register("Atari-v0", atari, max_episode_steps=27_000)
