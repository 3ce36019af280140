"""Builds the extension against the PyTorch of the Python that asks for it: maturin, told where that is.

PyTorch is the one that is installed beside, where that is the version that tch binds to; else pip installs it for
the build. Any other command runs in the same environment by

    python build_backend.py cargo clippy --release
"""

import os
import shlex
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

TORCH = "2.11.0"

CONFIG = """implementation=CPython
version={major}.{minor}
shared=true
abi3=false
suppress_build_script_link_lines=true
"""


def has_torch():
    """Whether this Python has that PyTorch, though an isolated build cannot import it."""
    found = distributions(name="torch", path=[sysconfig.get_path("purelib")])
    return any(torch.version.partition("+")[0] == TORCH for torch in found)


def set_environment():
    """For cargo: the folder above forces another libtorch and another Python's facts on everything below it."""
    folder = Path(__file__).resolve().parent / "target" / f"python-{sysconfig.get_python_version()}"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "pyo3.txt"
    config.write_text(CONFIG.format(major=sys.version_info.major, minor=sys.version_info.minor))
    # torch-sys asks whichever Python the PATH has. pip hides the packages that are installed by PYTHONPATH.
    hidden = "env -u PYTHONPATH -u PYTHONNOUSERSITE " if has_torch() else ""
    for name in ("python", "python3"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {hidden}{shlex.quote(sys.executable)} "$@"\n')
        script.chmod(0o755)
    os.environ.update(
        PATH=os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")]),
        PYO3_CONFIG_FILE=str(config),
        LIBTORCH_USE_PYTORCH="1",
        RUSTFLAGS=os.environ.get("RUSTFLAGS", ""),  # not those of the folder above, which are paths of its own
    )


def get_requires_for_build_wheel(config_settings=None):
    return [] if has_torch() else [f"torch=={TORCH}"]


get_requires_for_build_editable = get_requires_for_build_wheel


def get_requires_for_build_sdist(config_settings=None):
    return []


def maturin():
    import maturin

    return maturin


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    set_environment()
    return maturin().build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    set_environment()
    return maturin().build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory, config_settings=None):
    return maturin().build_sdist(sdist_directory, config_settings)


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    set_environment()
    return maturin().prepare_metadata_for_build_wheel(metadata_directory, config_settings)


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


if __name__ == "__main__":
    set_environment()
    os.execvp(sys.argv[1], sys.argv[1:])
