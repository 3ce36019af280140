"""Put MuJoCo 3.17.0 and Gymnasium's models under .mujoco/, where .cargo/config.toml and the build look.

Takes, in this order: what is already there; the mujoco and gymnasium packages of the `python3` on
the path, where both have the versions wanted; the PyPI wheels pinned below, checked against their
hashes. Needs nothing but the standard library and pip.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from wheels import fetch, replace, this_platform

MUJOCO_VERSION, GYMNASIUM_VERSION = "3.17.0", "1.4.0"
VERSIONS = f"mujoco {MUJOCO_VERSION}, gymnasium {GYMNASIUM_VERSION}"
HOME = Path(__file__).resolve().parents[2] / ".mujoco"
STAMP = "eva-rl-setup"
ASSETS = "gymnasium/envs/mujoco/assets/"

# What the wheel calls the library, where programs look for it below `lib`, and the name that the linker asks for.
if sys.platform == "darwin":
    LIBRARY = f"libmujoco.{MUJOCO_VERSION}.dylib"
    PLACE, LINKED = f"mujoco.framework/Versions/A/{LIBRARY}", "libmujoco.dylib"
else:
    LIBRARY = PLACE = f"libmujoco.so.{MUJOCO_VERSION}"
    LINKED = "libmujoco.so"

GYMNASIUM = {
    "gymnasium-1.4.0-py3-none-any.whl": (
        f"gymnasium=={GYMNASIUM_VERSION}",
        "1cb947c59e7c72d8eabb2c2274c00cd20948e69f8452a9ef4092223be24fdf0e",
    ),
}
WHEELS = {
    ("Linux", "x86_64"): {
        "mujoco-3.17.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl": (
            f"mujoco=={MUJOCO_VERSION}",
            "d66928d86a2d1b601bbaa4dc11db50214d17d5301bb8afd84721313b67ff0874",
        ),
    },
    ("Linux", "aarch64"): {
        "mujoco-3.17.0-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl": (
            f"mujoco=={MUJOCO_VERSION}",
            "91a70ed9979c383ff1f5c03f25cc2e1280a8254c1a8e558d5dd7f4184f01efc9",
        ),
    },
    ("Darwin", "arm64"): {
        "mujoco-3.17.0-cp311-cp311-macosx_11_0_arm64.whl": (
            f"mujoco=={MUJOCO_VERSION}",
            "6c324addca24a24a7b0beff2ec49300e9d4481fd8ccd611514ba7ea8e4a5e870",
        ),
    },
}


def existing():
    """Where this Python keeps its packages, if it has both at the right versions; else None."""
    question = (
        "from importlib.metadata import distribution as d; m, g = d('mujoco'), d('gymnasium'); "
        "print(f'mujoco {m.version}, gymnasium {g.version}'); print(m.locate_file('')); print(g.locate_file(''))"
    )
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True)
    if answer.returncode != 0:
        return None
    versions, *folders = answer.stdout.splitlines()
    return [Path(folder) for folder in folders] if versions == VERSIONS else None


def copy_existing(mujoco, gymnasium, staging):
    shutil.copy(mujoco / "mujoco" / LIBRARY, staging / "lib" / PLACE)
    for model in (gymnasium / ASSETS).glob("*.xml"):
        shutil.copy(model, staging / "models")


def download(staging):
    pinned = WHEELS[this_platform("build with `--no-default-features`")] | GYMNASIUM
    wheels = staging / "wheels"
    fetch(pinned, wheels, f"install {VERSIONS}")
    for file_name in pinned:
        with zipfile.ZipFile(wheels / file_name) as archive:
            for name in archive.namelist():
                base = name.rsplit("/", 1)[-1]
                if base == LIBRARY:
                    (staging / "lib" / PLACE).write_bytes(archive.read(name))
                elif name.startswith(ASSETS) and base.endswith(".xml"):
                    (staging / "models" / base).write_bytes(archive.read(name))
    shutil.rmtree(wheels)


def fill(staging):
    (staging / "lib" / PLACE).parent.mkdir(parents=True)
    (staging / "models").mkdir()
    if packages := existing():
        print(f"setup: using {VERSIONS} in {packages[0]}")
        copy_existing(*packages, staging)
    else:
        download(staging)
    (staging / "lib" / LINKED).symlink_to(PLACE)


def main():
    stamp = HOME / STAMP
    if stamp.exists() and stamp.read_text() == VERSIONS and (HOME / "lib" / PLACE).exists():
        return
    replace(HOME, STAMP, VERSIONS, fill)
    print(f"setup: {VERSIONS} are ready in {HOME.name}/")


if __name__ == "__main__":
    main()
