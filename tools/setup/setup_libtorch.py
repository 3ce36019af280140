"""Put libtorch 2.11.0 for the CPU under .libtorch/, where .cargo/config.toml looks for it.

Takes, in this order: what is already there; the folder that LIBTORCH names; the PyTorch of the
`python3` on the path; the PyPI wheels pinned below, checked against their hashes.
Needs nothing but the standard library and pip.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from wheels import fail, fetch, replace, this_platform

TORCH_VERSION = "2.11.0"
HOME = Path(__file__).resolve().parents[2] / ".libtorch"
STAMP = "eva-rl-setup"

# The wheels of one fixed Python version, so that one hash serves every Python. Those of Linux are CUDA builds.
WHEELS = {
    ("Linux", "x86_64"): {
        "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl": (
            "torch==2.11.0",
            "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
        ),
        "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl": (
            "nvidia-cuda-runtime==13.0.96",
            "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        ),
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl": (
            "nvidia-cuda-cupti==13.0.85",
            "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        ),
    },
    ("Linux", "aarch64"): {
        "torch-2.11.0-cp311-cp311-manylinux_2_28_aarch64.whl": (
            "torch==2.11.0",
            "d91aac77f24082809d2c5a93f52a5f085032740a1ebc9252a7b052ef5a4fddc6",
        ),
        "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl": (
            "nvidia-cuda-runtime==13.0.96",
            "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
        ),
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl": (
            "nvidia-cuda-cupti==13.0.85",
            "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
        ),
    },
    ("Darwin", "arm64"): {
        "torch-2.11.0-cp311-cp311-macosx_11_0_arm64.whl": (
            "torch==2.11.0",
            "7b6a60d48062809f58595509c524b88e6ddec3ebe25833d6462eeab81e5f2ce4",
        ),
    },
}

# A CPU program needs these libraries of the wheels alone. `libtorch_cuda.so` is left out, so that nothing links it.
LIBRARIES = {
    ("Linux", "x86_64"): ["libtorch.so", "libtorch_cpu.so", "libc10.so", "libgomp.so.1"],
    ("Linux", "aarch64"): [
        "libtorch.so",
        "libtorch_cpu.so",
        "libc10.so",
        "libgomp.so.1",
        "libgfortran.so.5",
        "libarm_compute.so",
        "libarm_compute_graph.so",
        "libnvpl_blas_core.so.0",
        "libnvpl_blas_lp64_gomp.so.0",
        "libnvpl_lapack_core.so.0",
        "libnvpl_lapack_lp64_gomp.so.0",
    ],
    ("Darwin", "arm64"): ["libtorch.dylib", "libtorch_cpu.dylib", "libc10.dylib", "libomp.dylib"],
}
SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"
NEEDED = [f"{name}{SUFFIX}" for name in ("libtorch", "libtorch_cpu", "libc10")]
CUDA_BUILD_NEEDS = ["libcudart.so.13", "libcupti.so.13"]


def check_tools():
    for tool, why in [
        ("cargo", "install Rust from https://rustup.rs"),
        ("c++", "install a C++ compiler (g++ or clang)"),
    ]:
        if shutil.which(tool) is None:
            fail(f"`{tool}` is not on the path; {why}.")


def existing_libtorch():
    """A libtorch or PyTorch of the right version that the user already has, or None."""
    if named := os.environ.get("LIBTORCH"):
        root = Path(named).resolve()
        if root == HOME:
            return None
        version = version_of(root)
        if version != TORCH_VERSION:
            fail(f"LIBTORCH names {root}, which holds libtorch {version}, and {TORCH_VERSION} is wanted.")
        return root
    question = "import torch; print(torch.__version__.split('+')[0], torch.__path__[0])"
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True)
    if answer.returncode != 0:
        return None
    version, root = answer.stdout.strip().split(maxsplit=1)
    if version != TORCH_VERSION:
        print(f"setup: this Python's PyTorch is {version}; {TORCH_VERSION} is wanted, so it is downloaded.")
        return None
    return Path(root)


def version_of(root):
    """The version of a libtorch folder (`build-version`) or a PyTorch package (`version.py`)."""
    if (root / "build-version").exists():
        return (root / "build-version").read_text().split("+")[0].strip()
    if (root / "version.py").exists():
        for line in (root / "version.py").read_text().splitlines():
            if line.startswith("__version__"):
                return line.split("'")[1].split("+")[0]
    return "of an unknown version"


def link_existing(root, staging):
    """Link the headers and the CPU libraries of `root` into `staging`."""
    (staging / "lib").mkdir(parents=True)
    (staging / "include").symlink_to(root / "include", target_is_directory=True)
    for library in (root / "lib").iterdir():
        if SUFFIX in library.name and "cuda" not in library.name and "python" not in library.name:
            (staging / "lib" / library.name).symlink_to(library)
    for name in CUDA_BUILD_NEEDS:
        for found in root.parent.glob(f"nvidia/*/lib/{name}"):
            (staging / "lib" / name).symlink_to(found)
    missing = [name for name in NEEDED if not (staging / "lib" / name).exists()]
    if missing:
        fail(f"{root} has no {', '.join(missing)} in its lib folder.")


def download(staging):
    """Fetch the pinned wheels with pip, check them, and unpack what a CPU program needs."""
    platform = this_platform(f"set LIBTORCH to a libtorch {TORCH_VERSION} folder")
    wheels = staging / "wheels"
    fetch(WHEELS[platform], wheels, f"set LIBTORCH to libtorch {TORCH_VERSION}")
    for file_name in WHEELS[platform]:
        unpack(wheels / file_name, staging, LIBRARIES[platform] + CUDA_BUILD_NEEDS)
    shutil.rmtree(wheels)


def unpack(wheel, staging, libraries):
    (staging / "lib").mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            base = name.rsplit("/", 1)[-1]
            if name.startswith("torch/include/") and base:
                target = staging / name.removeprefix("torch/")
            elif base in libraries:
                target = staging / "lib" / base
            else:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, open(target, "wb") as copy:
                shutil.copyfileobj(source, copy)


def fill(staging):
    if root := existing_libtorch():
        print(f"setup: using libtorch {TORCH_VERSION} in {root}")
        link_existing(root, staging)
    else:
        download(staging)


def main():
    check_tools()
    stamp = HOME / STAMP
    if stamp.exists() and stamp.read_text() == TORCH_VERSION:
        if all((HOME / "lib" / name).exists() for name in NEEDED):
            return
    replace(HOME, STAMP, TORCH_VERSION, fill)
    print(f"setup: libtorch {TORCH_VERSION} is ready in {HOME.name}/")


if __name__ == "__main__":
    main()
