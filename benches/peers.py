"""Measure eva-rl beside its peers, in one run on one machine, and print the ratios.

Environments: Gymnasium's numpy CartPoleVectorEnv and EnvPool, 1024 environments.
Policy: one batched transformers forward, 64 windows of K = 20, of a 3 x 128 and a 4 x 256 decision transformer,
beside the same forward here and beside a step of 64 environments.
Loading: peak memory of the program while a policy of 1 GB is read, over the size of its file.
Each pair is measured in turn, several times over; the medians are compared.

    python benches/peers.py --binary target/release/eva-rl
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ENVS = 1024
WINDOWS = 64
CONTEXT = 20


def ours(binary, *arguments):
    out = subprocess.run([binary, "bench", *arguments, "--json"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def steps_per_sec(step, seconds=2.0):
    for _ in range(20):
        step()
    steps, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for _ in range(20):
            step()
        steps += 20 * ENVS
    return steps / (time.perf_counter() - begun)


def gymnasium_speed():
    import gymnasium
    import numpy as np

    envs = gymnasium.make_vec("CartPole-v1", num_envs=ENVS, vectorization_mode="vector_entry_point")
    envs.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 2, ENVS)
    return steps_per_sec(lambda: envs.step(actions))


def envpool_speed():
    import envpool
    import numpy as np

    envs = envpool.make("CartPole-v1", env_type="gymnasium", num_envs=ENVS)
    envs.reset()
    actions = np.random.default_rng(0).integers(0, 2, ENVS).astype(np.int32)
    return steps_per_sec(lambda: envs.step(actions))


def make_policy(folder, layers=3, width=128):
    """A policy for Pendulum with random weights, with the keys that acting needs."""
    import torch
    from transformers import DecisionTransformerConfig, DecisionTransformerModel

    torch.manual_seed(0)
    keys = {
        "context_length": CONTEXT,
        "state_mean": [0.0] * 3,
        "state_std": [1.0] * 3,
        "return_scale": 100.0,
        "target_return": -100.0,
        "action_low": [-2.0],
        "action_high": [2.0],
    }
    sizes = {"n_layer": layers, "hidden_size": width, "n_head": 4, "n_positions": 64, "max_ep_len": 200}
    config = DecisionTransformerConfig(state_dim=3, act_dim=1, **sizes, **keys)
    model = DecisionTransformerModel(config).eval()
    model.save_pretrained(folder)
    return model


def transformers_secs(model, repeats=12):
    import torch

    torch.set_num_threads(2)
    inputs = {
        "states": torch.randn(WINDOWS, CONTEXT, 3),
        "actions": torch.randn(WINDOWS, CONTEXT, 1),
        "returns_to_go": torch.randn(WINDOWS, CONTEXT, 1),
        "timesteps": torch.arange(CONTEXT).repeat(WINDOWS, 1),
        "attention_mask": torch.ones(WINDOWS, CONTEXT, dtype=torch.long),
    }
    with torch.inference_mode():
        model(**inputs)
        secs = []
        for _ in range(repeats):
            begun = time.perf_counter()
            model(**inputs)
            secs.append(time.perf_counter() - begun)
    return statistics.median(secs)


def loading(args):
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own, because a child's peak begins at its parent's.
        maker = multiprocessing.get_context("spawn").Process(target=make_policy, args=(folder, 13, 1280))
        maker.start()
        maker.join()
        size = (Path(folder) / "model.safetensors").stat().st_size
        begun = time.perf_counter()
        reader = subprocess.Popen([args.binary, "inspect", folder], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(reader.pid, 0)
        secs = time.perf_counter() - begun
    assert status == 0
    peak = usage.ru_maxrss * 1024
    print(f"Loading {size / 1e9:.2f} GB of safetensors: peak {peak / 1e9:.2f} GB, {peak / size:.2f}x, in {secs:.1f} s")


def environments(args):
    cartpole = ["env", "--env", "CartPole-v1", "--num-envs", str(ENVS)]
    figures = {"eva-rl": [], "Gymnasium": [], "EnvPool": []}
    for _ in range(args.repeats):
        figures["eva-rl"].append(ours(args.binary, *cartpole)["steps_per_sec"])
        figures["Gymnasium"].append(gymnasium_speed())
        figures["EnvPool"].append(envpool_speed())
    medians = {name: statistics.median(values) for name, values in figures.items()}
    print(f"CartPole-v1, {ENVS} environments, steps per second (median of {args.repeats}):")
    for name, median in medians.items():
        print(f"  {name:10} {median / 1e6:7.2f} M   eva-rl / {name}: {medians['eva-rl'] / median:.1f}x")


def forward(args):
    turns = 3 * args.repeats  # short ones, so that both meet the same weather on a shared machine
    print(f"Whole forward, {WINDOWS} windows, K = {CONTEXT}, seconds (median of {turns} medians):")
    for layers, width in [(3, 128), (4, 256)]:
        with tempfile.TemporaryDirectory() as folder:
            model = make_policy(folder, layers, width)
            here, there = [], []
            for _ in range(turns):
                here.append(ours(args.binary, "forward", "--policy", folder, "--seconds", "1")["secs_per_forward"])
                there.append(transformers_secs(model))
        here, there = statistics.median(here), statistics.median(there)
        print(f"  {layers} x {width}: eva-rl {here * 1e3:.1f} ms, transformers {there * 1e3:.1f} ms, "
              f"ratio {there / here:.2f}x")  # fmt: skip


def rollout(args):
    with tempfile.TemporaryDirectory() as folder:
        model = make_policy(folder)
        command = ["rollout", "--policy", folder, "--env", "Pendulum-v1", "--num-envs", str(WINDOWS)]
        step, forward = [], []
        for _ in range(args.repeats):
            step.append(ours(args.binary, *command)["policy_secs_per_step"])
            forward.append(transformers_secs(model))
    step, forward = statistics.median(step), statistics.median(forward)
    print(f"3 x 128 policy, {WINDOWS} environments, K = {CONTEXT}, seconds per step (median of {args.repeats}):")
    print(f"  eva-rl, building its windows included  {step * 1e3:7.2f} ms")
    print(f"  transformers, the forward alone        {forward * 1e3:7.2f} ms   ratio {forward / step:.2f}x")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/eva-rl")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["loading", "environments", "forward", "rollout"])
    args = parser.parse_args()
    for name, measure in [
        ("loading", loading),
        ("environments", environments),
        ("forward", forward),
        ("rollout", rollout),
    ]:
        if args.only in (None, name):
            measure(args)


if __name__ == "__main__":
    main()
