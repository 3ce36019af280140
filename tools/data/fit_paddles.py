"""Fit how the paddles of Pong and Breakout answer a press, for the scripted players, and print it as Rust.

Each environment holds still or presses one way at random. How far the paddle's centre moves in a step is regressed on
the presses of that step and of the three before, where it keeps clear of its ends. Steps that a lost ball disturbs,
whose residuals are beyond three deviations, are left out. The ends are where it lies after it was pressed there long.
Run it with the Python of `make bridge`:
.bridge/bin/python tools/data/fit_paddles.py
"""

import contextlib
import sys

import numpy as np

with contextlib.redirect_stdout(sys.stderr):  # EnvPool says what it could not import
    import envpool

ENVS, STEPS, SEED = 32, 900, 1
# Steps that a press moves a paddle for.
PRESSES = 4
# Pixels that a paddle is from its ends, at least, and moves in a step, at most.
CLEAR, FASTEST = 3, 14
# Steps in which a paddle reaches an end for certain.
LONG = 30
# How often what disturbed steps is left out.
TRIMS = 5
# The part of a frame that shows the paddle alone, its background, the axis that it moves on, and the actions that
# move it back and forth along it.
GAMES = {
    "Pong-v5": (slice(14, 77), slice(73, 77), 87, 0, (2, 3)),
    "Breakout-v5": (slice(75, 78), slice(5, 79), 0, 1, (3, 2)),
}


def places(frames, rows, columns, background, axis):
    """The paddle's centre in each frame, along its axis, and whether it is seen."""
    weights = np.abs(frames[:, rows, columns].astype(float) - background)
    weights[weights < 12] = 0
    along = weights.sum(2 - axis)
    first = (rows, columns)[axis].start
    mass = along.sum(1)
    return (along * (first + np.arange(along.shape[1]))).sum(1) / np.maximum(mass, 1), mass > 0


def ends(game):
    """The least and the greatest place of the paddle's centre."""
    rows, columns, background, axis, actions = GAMES[game]
    for action in actions:
        pool = envpool.make(game, env_type="gymnasium", num_envs=ENVS, seed=SEED)
        pool.reset()
        for _ in range(LONG):
            frames = pool.step(np.full(ENVS, action, np.int32))[0][:, -1]
        yield np.median(places(frames, rows, columns, background, axis)[0])


def fit(game):
    rows, columns, background, axis, (back, forth) = GAMES[game]
    low, high = ends(game)
    pool = envpool.make(game, env_type="gymnasium", num_envs=ENVS, seed=SEED)
    pool.reset()
    rng = np.random.default_rng(SEED)
    centres, seen, presses = [], [], []
    for _ in range(STEPS):
        press = rng.choice([0, -1, 1], size=ENVS, p=[0.5, 0.25, 0.25])
        frames = pool.step(np.choose(press + 1, [back, 0, forth]).astype(np.int32))[0][:, -1]
        centre, here = places(frames, rows, columns, background, axis)
        centres.append(centre)
        seen.append(here)
        presses.append(press)
    centres, seen, presses = np.array(centres), np.array(seen), np.array(presses)
    pressed, moved = [], []
    for step in range(PRESSES, STEPS):
        window = slice(step - PRESSES, step + 1)
        clear = (centres[window] > low + CLEAR) & (centres[window] < high - CLEAR) & seen[window]
        steady = np.abs(np.diff(centres[window], axis=0)) < FASTEST
        kept = clear.all(0) & steady.all(0)
        pressed.append(presses[step - PRESSES + 1 : step + 1, kept][::-1].T)
        moved.append((centres[step] - centres[step - 1])[kept])
    pressed, moved = np.concatenate(pressed), np.concatenate(moved)
    total = len(moved)
    for _ in range(TRIMS):
        response, *_ = np.linalg.lstsq(pressed, moved, rcond=None)
        residuals = moved - pressed @ response
        kept = np.abs(residuals) < 3 * residuals.std()
        pressed, moved = pressed[kept], moved[kept]
    numbers = ", ".join(f"{value:.2f}" for value in response)
    print(f"// {game}: {len(moved)} of {total} steps, to {residuals[kept].std():.2f} pixels")
    print(f"Paddle {{ response: [{numbers}], ends: [{low:.1f}, {high:.1f}] }}")


def main():
    for game in GAMES:
        fit(game)


main()
