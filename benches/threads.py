"""How long a short run takes by how many threads compute and how they wait, beside others' work and without.

Prints the table of docs/threads.md. An example, from the repository's root:
    python benches/threads.py --binary target/release/eva-rl
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHORT = ["offline.updates=40", "online.filtered_bc.exploration.rounds=1",
         "online.filtered_bc.exploration.updates_per_round=5",
         "evaluation.every=1000", "evaluation.episodes=20"]
WAYS = {
    "default": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "a thread each core, sleeping": {"OMP_NUM_THREADS": str(os.cpu_count()), "OMP_WAIT_POLICY": "passive"},
    "a thread each core, spinning": {"OMP_NUM_THREADS": str(os.cpu_count()), "GOMP_SPINCOUNT": "300000"},
}
NAMES = ["OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "RAYON_NUM_THREADS"]


@contextlib.contextmanager
def busy(loops):
    """Loops of other processes, which want a core each."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds(binary, config, variables, limit):
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | variables
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "train", config, "--out", f"{folder}/run"]
        for setting in SHORT:
            command += ["--set", setting]
        before, begun = os.times(), time.monotonic()
        try:
            subprocess.run(command, env=environment, check=True, capture_output=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return None, None
        after = os.times()
        return time.monotonic() - begun, after.children_user - before.children_user


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/eva-rl")
    parser.add_argument("--config", default="configs/demo.toml")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds after which a run is given up")
    args = parser.parse_args()
    print("| other processes | threads | wall seconds, each run | CPU seconds | load average at each start |")
    print("|---|---|---|---|---|", flush=True)
    for loops in (0, os.cpu_count()):
        with busy(loops):
            for name, variables in WAYS.items():
                found, loads = [], []
                for _ in range(args.repeats):
                    loads.append(f"{os.getloadavg()[0]:.1f}")
                    found.append(seconds(args.binary, args.config, variables, args.limit))
                wall = ", ".join("> limit" if secs is None else f"{secs:.1f}" for secs, _ in found)
                user = ", ".join("–" if secs is None else f"{secs:.1f}" for _, secs in found)
                print(f"| {loops or 'none'} | {name} | {wall} | {user} | {', '.join(loads)} |", flush=True)


if __name__ == "__main__":
    main()
