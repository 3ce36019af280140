"""`python -m eva_rl`, and what the package says of PyTorch."""

import os
import subprocess
import sys
from pathlib import Path

import eva_rl


def run(path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "eva_rl", *arguments],
        env={**os.environ, "PATH": str(path)},
        capture_output=True,
        text=True,
    )


def test_the_program_on_the_path_is_run(tmp_path):
    program = tmp_path / "eva-rl"
    program.write_text('#!/bin/sh\necho "ran $@"\nexit 3\n')
    program.chmod(0o755)
    done = run(tmp_path, "eva", "--rank", "4")
    assert (done.stdout, done.returncode) == ("ran eva --rank 4\n", 3)


def test_without_it_the_way_to_get_it_is_said(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "there is no program `eva-rl` on the PATH, expected one: `make install` in the repository of eva-rl builds it and "
        "puts it there\n"
    )


def test_another_pytorch_is_refused_in_a_sentence():
    script = "import torch; torch.__version__ = '2.10.1+cpu'; import eva_rl"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.endswith("ImportError: PyTorch is 2.10.1+cpu, expected 2.11.0, which eva_rl is built with\n")


def test_types_come_with_the_package():
    assert (Path(eva_rl.__file__).parent / "py.typed").exists()
