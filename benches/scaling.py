"""Measure one rank and two, a thread each: offline updates, online rounds, evaluation and EVA.

    .venv/bin/python benches/scaling.py --binary target/release/eva-rl --mpirun .mpi/bin/mpirun
"""

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]

CONFIG = """
seed = 1
[policy.pretrained]
path = "{root}/policies/hopper-medium"
[data]
datasets = ["{data}"]
[adapter.eva]
rho = 2.0
tau = 0.999
max_batches = 60
lora = {{ rank = 8, alpha = 8.0, dropout = 0.0 }}
[loss.online_dt]
initial_temperature = 0.1
temperature_learning_rate = 1e-3
[optimiser]
batch_size = 64
learning_rate = 1e-3
weight_decay = 0.0
gradient_clip = 0.25
schedule = {{ constant = {{ warmup = 0 }} }}
[offline]
updates = {updates}
{online}
[env]
id = "Hopper-v5"
num_envs = 16
[evaluation]
every = 100000
episodes = {episodes}
[checkpoint]
every = 100000
"""

ONLINE = """
[online.odt]
replay_capacity = 64
exploration = {{ rounds = {rounds}, updates_per_round = 10, target_return = 3000.0 }}
"""


def run(args, ranks, arguments):
    launcher = [args.mpirun, "--allow-run-as-root", "--oversubscribe", "-n", str(ranks)]
    begun = time.perf_counter()
    out = subprocess.run([*launcher, args.binary, *arguments], capture_output=True, text=True)
    if out.returncode:
        raise SystemExit(out.stderr)
    return time.perf_counter() - begun


def seconds(args, folder, ranks, updates, rounds, episodes):
    """Seconds of a run; differences of two such leave out what every run begins and ends with."""
    config, out = folder / "config.toml", folder / "run"
    online = ONLINE.format(rounds=rounds) if rounds else ""
    text = CONFIG.format(root=ROOT, data=folder / "data", updates=updates, online=online, episodes=episodes)
    config.write_text(text)
    shutil.rmtree(out, ignore_errors=True)
    taken = run(args, ranks, ["train", str(config), "--out", str(out), "--threads", "1"])
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    eva = [line["value"] for line in lines if line["tag"] == "time/initialisation"]
    return taken, eva[0] if eva else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/eva-rl"))
    parser.add_argument("--mpirun", default=str(ROOT / ".mpi/bin/mpirun"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--updates", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        collect = ["collect", "--env", "Hopper-v5", "--policy", str(ROOT / "policies/hopper-medium")]
        run(args, 1, [*collect, "--episodes", "32", "--out", str(folder / "data")])
        kinds = {
            "offline updates": ((0, 0, 1), (args.updates, 0, 1)),
            "online rounds": ((1, 1, 1), (1, 9, 1)),
            "evaluation": ((0, 0, 16), (0, 0, 160)),
        }
        eva = {1: [], 2: []}
        for kind, (little, much) in kinds.items():
            found = {1: [], 2: []}
            for _ in range(args.repeats):
                for ranks in (1, 2):
                    (less, at_less), (more, at_more) = (seconds(args, folder, ranks, *some) for some in (little, much))
                    found[ranks].append(more - less)
                    eva[ranks] += [at_less, at_more]
            one, two = (statistics.median(found[ranks]) for ranks in (1, 2))
            print(f"{kind}: one rank {one:.2f} s, two {two:.2f} s, {one / two:.2f}x", flush=True)
        one, two = (statistics.median(eva[ranks]) for ranks in (1, 2))
        print(f"EVA's initialisation: one rank {one:.2f} s, two {two:.2f} s, {one / two:.2f}x")


if __name__ == "__main__":
    main()
