"""Measure one rank and two, each bound to a core and with a thread: offline updates, online rounds, evaluation and EVA.

    .venv/bin/python benches/scaling.py --binary target/release/eva-rl --mpirun .mpi/bin/mpirun

The policies are decision transformers of the pendulum: the demo's, and two with random weights that are larger.
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
ENV = ["--env", "Pendulum-v1"]

PRETRAIN = """
seed = 1
[policy.new]
hidden_size = {width}
layers = {layers}
heads = {heads}
dropout = 0.0
context_length = 20
max_episode_length = 200
return_scale = 200.0
target_return = -150.0
[data]
datasets = ["{data}"]
[adapter.full_fine_tuning]
[loss.behaviour_cloning]
[optimiser]
batch_size = 1
learning_rate = 1e-4
weight_decay = 0.0
gradient_clip = 0.25
schedule = {{ constant = {{ warmup = 0 }} }}
[offline]
updates = 1
[env]
id = "Pendulum-v1"
num_envs = 1
[evaluation]
every = 1
episodes = 1
[checkpoint]
every = 1
"""

CONFIG = """
seed = 1
[policy.pretrained]
path = "{policy}"
[data]
datasets = ["{data}"]
[adapter.eva]
rho = 2.0
tau = 0.9999
max_batches = 20
lora = {{ rank = 8, alpha = 8.0, dropout = 0.0 }}
[loss.online_dt]
initial_temperature = 0.1
temperature_learning_rate = 1e-3
[optimiser]
batch_size = {batch}
learning_rate = 1e-4
weight_decay = 0.0
gradient_clip = 0.25
schedule = {{ constant = {{ warmup = 0 }} }}
[offline]
updates = {updates}
[online.odt]
replay_capacity = 128
exploration = {{ rounds = {rounds}, updates_per_round = 10, target_return = -150.0 }}
[env]
id = "Pendulum-v1"
num_envs = {envs}
[evaluation]
every = 100000
episodes = 2
[checkpoint]
every = 100000
"""


def launch(args, ranks, arguments):
    command = [args.mpirun, "--allow-run-as-root", "--bind-to", "core", "-n", str(ranks), args.binary, *arguments]
    out = subprocess.run([*command, "--threads", "1"], capture_output=True, text=True)
    if out.returncode:
        raise SystemExit(out.stderr)


def make(args, folder, width, layers, heads):
    """A policy of this size with random weights, and its folder."""
    config, run = folder / "pretrain.toml", folder / f"policy-{layers}x{width}"
    config.write_text(PRETRAIN.format(width=width, layers=layers, heads=heads, data=folder / "data"))
    launch(args, 1, ["train", str(config), "--out", str(run)])
    return run / "best" / "policy"


def train(args, folder, ranks, policy, batch, envs, updates, rounds=2):
    """Seconds of EVA's search, of an offline update, and of an online round with ten updates."""
    config, run = folder / "config.toml", folder / "run"
    text = CONFIG.format(policy=policy, data=folder / "data", batch=batch, envs=envs, updates=updates, rounds=rounds)
    config.write_text(text)
    shutil.rmtree(run, ignore_errors=True)
    launch(args, ranks, ["train", str(config), "--out", str(run)])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    at = {line["step"]: line["wall_secs"] for line in lines if line["tag"] == "train/loss"}
    (eva,) = (line["value"] for line in lines if line["tag"] == "time/initialisation")
    last = updates + 10 * rounds
    offline, online = (at[updates] - at[10]) / (updates - 10), (at[last] - at[updates]) / rounds
    batches = sum(line["tag"] == "eva/converged_fraction" for line in lines)
    gave = [line["value"] for line in lines if line["tag"] == "time/communicated_bytes" and line["step"] == 0]
    times = {"EVA's search": eva, "an offline update": offline, "an online round": online}
    return times, batches, gave[0] if gave else 0


def evaluate(args, ranks, policy, envs, episodes):
    """Seconds of so many episodes, less what the command begins and ends with."""
    took = []
    for count in (envs, envs + episodes):
        begun = time.perf_counter()
        launch(args, ranks, ["evaluate", str(policy), *ENV, "--episodes", str(count), "--num-envs", str(envs)])
        took.append(time.perf_counter() - begun)
    return {f"{episodes} episodes": took[1] - took[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/eva-rl"))
    parser.add_argument("--mpirun", default=str(ROOT / ".mpi/bin/mpirun"))
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = ROOT / "policies/pendulum"
        launch(args, 1, ["collect", *ENV, "--policy", "scripted", "--episodes", "64", "--out", str(folder / "data")])
        print("| policy | what | one rank, s | two ranks, s | gain |\n|---|---|---|---|---|", flush=True)
        travels = []
        for label, layers, width, context, policy, batch, envs, updates, episodes in (
            ("3 × 64, the demo's", 3, 64, 10, small, 64, 64, 60, 256),
            ("4 × 256", 4, 256, 20, make(args, folder, 256, 4, 4), 32, 32, 30, 32),
            ("4 × 512, as the paper's", 4, 512, 20, make(args, folder, 512, 4, 8), 16, 16, 20, 16),
        ):
            found = {1: [], 2: []}
            for _ in range(args.repeats):
                for ranks, took in found.items():
                    trained, batches, gave = train(args, folder, ranks, policy, batch, envs, updates)
                    took.append(trained | evaluate(args, ranks, policy, envs, episodes))
            for what in found[1][0]:
                one, two = (statistics.median(took[what] for took in found[ranks]) for ranks in (1, 2))
                print(f"| {label}; {batch} windows, {envs} environments | {what} | {one:.3f} | {two:.3f} | {one / two:.2f}x |", flush=True)
            # Inputs of c_attn, attn.c_proj, mlp.c_fc and mlp.c_proj; steps of three tokens.
            rows = batches * batch / 2 * context * 3
            travels.append((label, batches, gave, rows * layers * (3 * width + 4 * width) * 4))
        print("\n| policy | batches | EVA's sums, MB a rank | activations as PEFT gathers them, MB a rank |\n|---|---|---|---|")
        for label, batches, gave, gathered in travels:
            print(f"| {label} | {batches} | {gave / 1e6:.2f} | {gathered / 1e6:.1f} |")


if __name__ == "__main__":
    main()
