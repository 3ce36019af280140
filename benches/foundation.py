"""Measure a JAT policy of the published size, with random weights, beside PyTorch, in one run on one machine.

Loading: peak memory while the policy is read, over the size of its file; and the same beyond what the program takes
without a policy, most of which is libtorch.
Acting: 16 environments, the policy's part of a step, by the reference's rule (`--inference reference`), beside the
reference's `get_next_action` restated (`tools/interop/jat_model.py`), which acts in one environment after another.
EVA: batches of windows of random play, on the blocks' linear layers, beside PEFT's EVA on the same module and batches.

    .venv/bin/python -W ignore benches/foundation.py --binary target/release/eva-rl
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools/interop"))
from jat_model import Acting, Jat  # noqa: E402

ENVS, STATES, ACTIONS = 16, 11, 3
BATCHES, WINDOWS, STEPS, RANK = 10, 16, 32, 8
SITES = ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"]


def ours(binary, *arguments):
    out = subprocess.run([binary, "bench", *map(str, arguments), "--json"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


# Run by a Python that has loaded nothing, because a child's peak begins at its parent's.
PEAK = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
assert status == 0
print(usage.ru_maxrss * 1024)
"""


def peak_bytes(command):
    out = subprocess.run([sys.executable, "-c", PEAK, *map(str, command)], check=True, capture_output=True, text=True)
    return int(out.stdout)


def loading(args, folder):
    size = (folder / "model.safetensors").stat().st_size
    empty = peak_bytes([args.binary, "--version"])
    peak = peak_bytes([args.binary, "inspect", folder])
    print(f"Loading {size / 1e6:.0f} MB: peak {peak / 1e6:.0f} MB, {peak / size:.2f}x; {empty / 1e6:.0f} MB without a "
          f"policy, {(peak - empty) / size:.2f}x beyond that")  # fmt: skip


def acting(args, folder):
    torch.set_num_threads(2)
    model = Jat.read(folder)
    here, there = [], []
    for _ in range(args.repeats):
        command = ["rollout", "--policy", folder, "--env", "Hopper-v5", "--num-envs", ENVS, "--inference", "reference"]
        found = ours(args.binary, *command, "--seconds", args.seconds)
        here.append(found["num_envs"] / found["steps_per_sec"])
        actors = [Acting(model, ACTIONS) for _ in range(ENVS)]
        secs, begun = [], time.perf_counter()
        while len(secs) < 8 or time.perf_counter() - begun < args.seconds:
            started = time.perf_counter()
            for actor in actors:
                actor.act(torch.randn(STATES), 1.0)
            secs.append(time.perf_counter() - started)
        there.append(statistics.median(secs))
    own, peer = statistics.median(here), statistics.median(there)
    print(f"A step of {ENVS} environments, ms: eva-rl, the environments' steps included, {own * 1e3:.0f}, "
          f"get_next_action in turn {peer * 1e3:.0f}, ratio {peer / own:.1f}x")  # fmt: skip


def peft_eva_secs(folder, batches):
    from peft import LoraConfig, get_peft_model, initialize_lora_eva_weights
    from peft.tuners.lora import EvaConfig

    config = LoraConfig(r=RANK, lora_alpha=1, target_modules=SITES, init_lora_weights="eva",
                        eva_config=EvaConfig(rho=2.0, tau=0.99))  # fmt: skip
    adapted = get_peft_model(Jat.read(folder), config)
    forwards = []

    def forward(model, batch):
        forwards.append(1)
        model(*batch)

    quiet = {"prepare_model_inputs_fn": None, "prepare_layer_inputs_fn": None, "show_progress_bar": False}
    begun = time.perf_counter()
    initialize_lora_eva_weights(adapted, dataloader=batches, forward_fn=forward, **quiet)
    return time.perf_counter() - begun, len(forwards)


def eva(args, folder):
    """Random walks for observations, since independent numbers have no directions to find."""
    draw = torch.Generator().manual_seed(0)
    normal = lambda width: torch.randn(BATCHES * WINDOWS, STEPS, width, generator=draw)  # noqa: E731
    inputs = {
        "states": normal(STATES).cumsum(1) * torch.linspace(0.1, 1.0, STATES),
        "actions": normal(ACTIONS),
        "previous_rewards": normal(1),
        "timesteps": torch.arange(STEPS).repeat(BATCHES * WINDOWS, 1),
    }
    file = folder / "inputs.safetensors"
    save_file(inputs, file)
    command = ["eva", "--policy", folder, "--inputs", file, "--batch-size", WINDOWS, "--rank", RANK, "--rho", "2"]
    found = ours(args.binary, *command, "--repeats", "1")
    given = [inputs[key] for key in ["states", "actions", "previous_rewards"]]
    batches = [[x[i * WINDOWS : (i + 1) * WINDOWS] for x in given] for i in range(BATCHES)]
    secs, forwards = peft_eva_secs(folder, batches)
    print(f"EVA, rank {RANK}, batches of {WINDOWS} x {STEPS} steps, s: eva-rl {found['eva_secs']:.1f} "
          f"({found['batches']} batches), PEFT {secs:.1f} ({forwards} batches), ratio {secs / found['eva_secs']:.1f}x")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/eva-rl")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--bfloat16", action="store_true", help="the policy's file in 16 bits")
    parser.add_argument("--only", choices=["loading", "acting", "eva"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "jat"
        kind = ["--bfloat16"] if args.bfloat16 else []
        subprocess.run([sys.executable, ROOT / "tools/data/jat_weights.py", folder, *kind], check=True)
        for part in [loading, acting, eva]:
            if args.only in (None, part.__name__):
                part(args, folder)


if __name__ == "__main__":
    main()
