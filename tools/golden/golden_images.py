"""Make the fixtures under tests/golden/images: image datasets as Python's minari and h5py leave them, and some that lie.

Needs minari 0.5.4 with hdf5 and jpeg. Run from the repository's root:
    python tools/golden/golden_images.py
"""

import json
import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "images"
os.environ["MINARI_DATASETS_PATH"] = str(ROOT)

import h5py  # noqa: E402
import minari  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from gymnasium import spaces  # noqa: E402
from minari.data_collector import EpisodeBuffer  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

STEPS = [4, 7]
ACTIONS = spaces.Discrete(3)


def image(*shape):
    return spaces.Box(0, 255, shape, np.uint8)


def make(name, space, jpeg=False):
    """A dataset of random observations of `space`, as Python's minari writes it; and the observations."""
    space.seed(1)
    ACTIONS.seed(2)
    buffers, shown = [], []
    for steps in STEPS:
        seen = [space.sample() for _ in range(steps + 1)]
        shown.append(seen)
        columns = {key: [one[key] for one in seen] for key in space} if isinstance(space, spaces.Dict) else seen
        ends = [False] * (steps - 1) + [True]
        actions = [ACTIONS.sample() for _ in range(steps)]
        buffers.append(
            EpisodeBuffer(
                observations=columns, actions=actions, rewards=[1.0] * steps,
                terminations=ends, truncations=[False] * steps, infos={},
            )
        )  # fmt: skip
    minari.create_dataset_from_buffers(
        f"{name}-v0", buffers, observation_space=space, action_space=ACTIONS, algorithm_name="random",
        author="eva-rl", author_email="", code_permalink="tools/golden/golden_images.py", description="",
        jpeg_encoding=jpeg,
    )  # fmt: skip
    return shown


def again(name, changed, change):
    """A copy of a dataset in which `change` was done to each episode's images."""
    shutil.copytree(ROOT / f"{name}-v0", ROOT / f"{changed}-v0")
    with h5py.File(ROOT / f"{changed}-v0/data/main_data.hdf5", "r+") as file:
        for number in range(len(STEPS)):
            group = file[f"episode_{number}"]
            images = group["observations"][()]
            del group["observations"]
            change(group, images)


def stored(**options):
    return lambda group, images: group.create_dataset("observations", data=images, **options)


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    last = make("last", image(6, 5, 3))
    beside = make("dict", spaces.Dict(image=image(2, 5, 4), speed=spaces.Box(-1, 1, (2,), np.float32)))
    mission = spaces.Text(12, charset=" abcdefgh")  # Minari writes characters in their order
    parts = {"image": image(7, 7, 3), "direction": spaces.Discrete(4), "mission": mission}
    told = make("parts", spaces.Dict(parts))
    make("jpeg", image(8, 8, 3), jpeg=True)
    again("last", "gzip", stored(chunks=(3, 6, 5, 3), compression="gzip", shuffle=True))
    again("last", "lzf", stored(chunks=(2, 3, 5, 1), compression="lzf"))
    again("last", "contiguous", stored())
    again("last", "short", lambda group, images: group.create_dataset("observations", data=images[:-1]))
    again("last", "floats", lambda group, images: group.create_dataset("observations", data=images / 255))
    again("last", "turned", lambda group, images: group.create_dataset("observations", data=images.transpose(0, 3, 1, 2)))
    expected = {}
    for number, seen in enumerate(last):
        expected[f"last.{number}"] = torch.tensor(np.stack(seen).transpose(0, 3, 1, 2).copy())
    for number, seen in enumerate(beside):
        expected[f"dict.{number}.image"] = torch.tensor(np.stack([one["image"] for one in seen]))
        expected[f"dict.{number}.speed"] = torch.tensor(np.stack([one["speed"] for one in seen]))
    numbers = spaces.Dict({name: space for name, space in parts.items() if name != "image"})
    for number, seen in enumerate(told):
        expected[f"parts.{number}.image"] = torch.tensor(np.stack([one["image"].transpose(2, 0, 1) for one in seen]).copy())
        flat = [spaces.flatten(numbers, {name: one[name] for name in numbers}) for one in seen]
        expected[f"parts.{number}.numbers"] = torch.tensor(np.stack(flat).astype(np.float32))
    save_file(expected, ROOT / "expected.safetensors")
    for metadata in ROOT.glob("*/data/metadata.json"):
        kept = json.loads(metadata.read_text())
        metadata.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
