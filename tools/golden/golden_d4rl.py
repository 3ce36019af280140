"""Make the fixtures under tests/golden/d4rl: flat HDF5 files as D4RL writes them, and files that are not right.

Needs h5py. Run from the repository's root:
    python tools/golden/golden_d4rl.py
"""

import shutil
from pathlib import Path

import h5py
import numpy as np

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "d4rl"
STEPS, WIDTH = 30, 3


def arrays():
    """Thirty steps: number 9 is terminal, the time is out after number 19, and the last episode is unfinished.

    Dimension d of observation n is n + d / 4, and the next observation is half a step further."""
    steps = np.arange(STEPS)
    observations = (steps[:, None] + np.arange(WIDTH) / 4).astype(np.float32)
    return {
        "observations": observations,
        "actions": np.stack([np.sin(steps), np.cos(steps)], axis=1).astype(np.float32),
        "rewards": (steps / 2).astype(np.float32),
        "terminals": steps == 9,
        "timeouts": steps == 19,
    }


def write(name, values, **options):
    with h5py.File(GOLDEN / f"{name}.hdf5", "w") as file:
        for key, value in values.items():
            file.create_dataset(key, data=value, **(options if np.ndim(value) else {}))


def main():
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir(parents=True)
    steps = np.arange(STEPS)
    half = np.float32(0.5)

    # As D4RL compresses its files, with chunks that no episode keeps to.
    whole = arrays() | {"infos/goal": np.zeros((STEPS, 2)), "infos/success": steps == 5, "metadata/algorithm": b"SAC"}
    write("timeouts", whole, compression="gzip", chunks=True)

    following = arrays()
    following["next_observations"] = following["observations"] + half
    write("next-observations", following)

    plain = {key: value.astype(np.float64) for key, value in arrays().items() if key != "timeouts"}
    plain["actions"] *= 3
    write("no-timeouts", plain)

    discrete = arrays()
    discrete["actions"] = steps % 3
    write("discrete", discrete)

    # An episode of one step, whose time is out, has no observation after it.
    short = arrays()
    short["timeouts"] = (steps == 10) | (steps == 19)
    write("short", short)

    lengths = arrays()
    lengths["actions"] = lengths["actions"][:-1]
    write("lengths", lengths)

    rewards = arrays()
    del rewards["rewards"]
    write("rewards", rewards)

    nan = arrays()
    nan["observations"][7, 2] = np.nan
    write("nan", nan)

    widths = following | {"next_observations": following["next_observations"][:, :2]}
    write("widths", widths)

    images = arrays() | {"observations": np.zeros((STEPS, 4, 4, 3), np.uint8)}
    write("images", images)


main()
