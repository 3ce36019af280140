"""Measure eva-rl's policies over images beside their peers, in one run on one machine, and print the ratios.

The policy has the shape of the published Atari decision transformers (6 blocks of 128, windows of 30 steps of four
84 x 84 frames) and random weights; 64 environments are Pong-v5 of EnvPool.

Environments: steps of random play, beside EnvPool stepped from Python; and a dataset collected, beside a Python loop
that keeps the frames in memory.
Rollout: windows and the cache, beside a Python loop of EnvPool and the same model in PyTorch, which has whole windows.
Update: a LoRA update of the blocks' linear layers, beside PEFT; the loss of the first is checked to be ours.
EVA: the same layers, beside PEFT's initialisation, on the same batches.
Windows: drawing windows of 30 steps from a dataset on the disk, beside minari's `sample_episodes`; and the memory that
100,000 steps of Pong take in a replay.

    python benches/pixels.py --binary target/release/eva-rl
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from peers import ours, python_speed
from torch import nn

ENVS = 64
CONTEXT = 30
TARGET = 20.0
TIMESTEPS = 2654
ACTIONS = 6
WIDTH = 128
BLOCKS = 6
HEADS = 8
RANK = 8
# What an update and a batch of EVA read.
WINDOWS = 16
BATCHES = 16
SITES = ["attn.query", "attn.key", "attn.value", "attn.proj", "mlp.0", "mlp.2"]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        heads = lambda x: x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)  # noqa: E731
        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        read = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(read.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2, self.attn = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), Attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Policy(nn.Module):
    """The Atari decision transformer, without dropout: logits of every step."""

    def __init__(self):
        super().__init__()
        self.state_encoder = nn.Sequential(
            *(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3136, WIDTH), nn.Tanh()),
        )
        self.ret_emb = nn.Sequential(nn.Linear(1, WIDTH), nn.Tanh())
        self.action_embeddings = nn.Sequential(nn.Embedding(ACTIONS, WIDTH), nn.Tanh())
        self.pos_emb = nn.Parameter(torch.zeros(1, 3 * CONTEXT + 1, WIDTH))
        self.global_pos_emb = nn.Parameter(torch.zeros(1, TIMESTEPS + 1, WIDTH))
        self.tok_emb = nn.Embedding(ACTIONS, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.ln_f = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, ACTIONS, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, states, actions, returns_to_go, timesteps):
        """Frames [B, T, 4, 84, 84] of bytes, actions [B, T], returns [B, T, 1], the window's timestep [B, 1]."""
        batch, steps = actions.shape
        images = self.state_encoder(states.flatten(0, 1).float() / 255).view(batch, steps, WIDTH)
        tokens = [self.ret_emb(returns_to_go), images, self.action_embeddings(actions)]
        x = torch.stack(tokens, 2).flatten(1, 2)
        x = x + self.pos_emb[:, : x.shape[1]] + self.global_pos_emb[0, timesteps]
        return self.head(self.ln_f(self.blocks(x)))[:, 1::3]


def save(model, folder):
    """The policy as `model.pth`, with the target return that acting needs and without dropout."""
    torch.save(model.state_dict(), Path(folder) / "model.pth")
    config = {"model_type": "decision_transformer_atari", "n_head": HEADS, "target_return": TARGET}
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    (Path(folder) / "config.json").write_text(json.dumps(config | still))


def make_pongs():
    import envpool

    return envpool.make("Pong-v5", env_type="gymnasium", num_envs=ENVS, num_threads=os.cpu_count())


def environments(args):
    here, there = [], []
    for _ in range(args.repeats):
        command = ["env", "--env", "envpool:Pong-v5", "--num-envs", str(ENVS), "--seconds", "3"]
        here.append(ours(args.binary, *command)["steps_per_sec"])
        there.append(python_speed(make_pongs(), ENVS, True, 3.0))
    here, there = statistics.median(here), statistics.median(there)
    print(f"{ENVS} Pong-v5, random actions, transitions per second (median of {args.repeats}): "
          f"eva-rl {here:.0f}, EnvPool from Python {there:.0f}, ratio {here / there:.2f}x")  # fmt: skip


def collect_in_python(episodes):
    """Transitions a second of a loop that keeps every latest frame, action and reward in memory, until so many episodes
    have ended; the making of its environments counts, as it does in the command's time."""
    begun, draw = time.perf_counter(), np.random.default_rng(0)
    envs = make_pongs()
    kept, steps, ended = [envs.reset()[0][:, -1].copy()], 0, 0
    while ended < episodes:
        actions = draw.integers(0, ACTIONS, ENVS)
        shown, rewards, terminated, truncated, _ = envs.step(actions)
        kept += [shown[:, -1].copy(), actions, rewards, terminated, truncated]
        over = int((terminated | truncated).sum())
        steps, ended = steps + ENVS - over, ended + over
    return steps / (time.perf_counter() - begun)


def collecting(args):
    here, there = [], []
    # Some an environment, so that few of them wait at the end.
    episodes = 4 * ENVS
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            command = [args.binary, "collect", "--env", "envpool:Pong-v5", "--policy", "random", "--num-envs", str(ENVS)]
            command += ["--episodes", str(episodes), "--out", f"{folder}/pong-v0", "--json"]
            begun = time.perf_counter()
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["result"]
            here.append(found["episodes"] * found["mean_length"] / (time.perf_counter() - begun))
        there.append(collect_in_python(episodes))
    here, there = statistics.median(here), statistics.median(there)
    print(f"`collect` of {episodes} episodes of {ENVS} Pong-v5, written and compressed, transitions per second of the whole "
          f"command: eva-rl {here:.0f}, EnvPool in a Python loop {there:.0f}, ratio {here / there:.2f}x")  # fmt: skip


class PythonLoop:
    """EnvPool's Pongs and the PyTorch model, one batched forward over the last steps a step."""

    def __init__(self, model):
        self.model, self.envs = model, make_pongs()
        self.states = torch.as_tensor(self.envs.reset()[0])[:, None]
        self.actions = torch.zeros(ENVS, 1, dtype=torch.long)
        self.to_go = torch.full((ENVS, 1, 1), TARGET)
        self.timesteps = torch.zeros(ENVS, 1, dtype=torch.long)

    def step(self):
        with torch.inference_mode():
            logits = self.model(self.states, self.actions, self.to_go, self.timesteps)[:, -1]
        action = logits.argmax(-1)
        state, reward, *_ = self.envs.step(action.numpy())
        self.actions[:, -1] = action
        grow = lambda all, new: torch.cat([all, new], 1)[:, -CONTEXT:]  # noqa: E731
        self.states = grow(self.states, torch.as_tensor(state)[:, None])
        self.actions = grow(self.actions, torch.zeros_like(self.actions[:, :1]))
        self.to_go = grow(self.to_go, self.to_go[:, -1:] - torch.as_tensor(reward, dtype=torch.float32)[:, None, None])
        self.timesteps += 1

    def speed(self, seconds):
        """Transitions a second with full contexts."""
        for _ in range(CONTEXT):
            self.step()
        steps, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            self.step()
            steps += ENVS
        return steps / (time.perf_counter() - begun)


def rollout(args):
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        model = Policy().eval()
        save(model, folder)
        command = ["rollout", "--policy", folder, "--env", "envpool:Pong-v5", "--num-envs", str(ENVS), "--seconds", "4"]
        found = {"windows": [], "cached": [], "PyTorch": []}
        for _ in range(args.repeats):
            for name, inference in [("windows", "window"), ("cached", "cached")]:
                found[name].append(ours(args.binary, *command, "--inference", inference)["steps_per_sec"])
            found["PyTorch"].append(PythonLoop(model).speed(8.0))
    medians = {name: statistics.median(speeds) for name, speeds in found.items()}
    print(f"{BLOCKS} x {WIDTH} policy, K = {CONTEXT}, {ENVS} Pong-v5, transitions per second (median of {args.repeats}):")
    for name, speed in medians.items():
        print(f"  {name:8} {speed:7.0f}   {speed / medians['PyTorch']:5.1f}x PyTorch")


def frames(args, folder, episodes=2):
    """A dataset of random play."""
    data = f"{folder}/pong-v0"
    command = [args.binary, "collect", "--env", "envpool:Pong-v5", "--policy", "random", "--episodes", str(episodes)]
    subprocess.run([*command, "--num-envs", str(min(episodes, ENVS)), "--out", data], check=True, capture_output=True)
    return data


def batches(args, folder):
    """Windows of random play, for everybody: frames, one-hot actions, returns, timesteps."""
    import h5py

    with h5py.File(f"{frames(args, folder)}/data/main_data.hdf5") as file:
        episodes = [(one["observations"][:], one["actions"][:], one["rewards"][:]) for one in file.values()]
    draw, rows = np.random.default_rng(1), []
    for _ in range(BATCHES * WINDOWS):
        shown, actions, rewards = episodes[draw.integers(len(episodes))]
        start = draw.integers(len(actions) - CONTEXT)
        to_go = rewards[::-1].cumsum()[::-1].astype(np.float32)
        part = slice(start, start + CONTEXT)
        rows.append((shown[part], actions[part], to_go[part, None], np.arange(start, start + CONTEXT)))
    states, actions, to_go, timesteps = (torch.as_tensor(np.stack(column)) for column in zip(*rows))
    onehot = nn.functional.one_hot(actions, ACTIONS).float()
    return {"states": states, "actions": onehot, "returns_to_go": to_go, "timesteps": timesteps}


def of_model(batch):
    """The same as the PyTorch model reads it."""
    actions = batch["actions"].argmax(-1)
    return batch["states"], actions, batch["returns_to_go"], batch["timesteps"][:, :1]


def cut(inputs):
    return [
        {name: tensor[index * WINDOWS : (index + 1) * WINDOWS] for name, tensor in inputs.items()}
        for index in range(BATCHES)
    ]


def peft_update_secs(model, batches, seconds):
    """PEFT's LoRA updates: the loss of the first, and the median of the others' seconds."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=1, target_modules=SITES)).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
    losses, secs, begun = [], [], time.perf_counter()
    for batch in itertools.cycle(batches):
        if len(secs) >= 4 and time.perf_counter() - begun >= seconds:
            return losses[0], statistics.median(secs[1:])
        started = time.perf_counter()
        read = of_model(batch)
        loss = nn.functional.cross_entropy(model(*read).flatten(0, 1), read[1].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.25)
        optimiser.step()
        secs.append(time.perf_counter() - started)
        losses.append(loss.item())


def peft_eva_secs(model, batches):
    """PEFT's EVA: seconds, and forwards."""
    from peft import LoraConfig, get_peft_model, initialize_lora_eva_weights
    from peft.tuners.lora import EvaConfig

    eva = {"init_lora_weights": "eva", "eva_config": EvaConfig(rho=2.0, tau=0.99)}
    adapted = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=1, target_modules=SITES, **eva))
    forwards = []

    def forward(model, batch):
        forwards.append(1)
        model(*of_model(batch))

    quiet = {"prepare_model_inputs_fn": None, "prepare_layer_inputs_fn": None, "show_progress_bar": False}
    begun = time.perf_counter()
    initialize_lora_eva_weights(adapted, dataloader=batches, forward_fn=forward, **quiet)
    return time.perf_counter() - begun, len(forwards)


def training(args):
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        model = Policy()
        save(model, folder)
        inputs = batches(args, folder)
        file = f"{folder}/inputs.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in inputs.items()}, file)
        parts = cut(inputs)
        fresh = lambda: Policy().eval()  # noqa: E731
        here, new, there = [], [], []
        command = ["update", "--policy", folder, "--inputs", file, "--batch-size", str(WINDOWS), "--rank", str(RANK)]
        for _ in range(args.repeats):
            # The batches come again after the first few: their images are known then, as in a run's later updates.
            here.append(ours(args.binary, *command, "--seconds", "8"))
            new.append(ours(args.binary, *command, "--seconds", "8", "--new-images"))
            peer = fresh()
            peer.load_state_dict(model.state_dict())
            loss, secs = peft_update_secs(peer, parts, 8.0)
            there.append(secs)
            for found in (here[-1], new[-1]):
                assert abs(found["first_loss"] - loss) < 1e-5 * loss, (found["first_loss"], loss)
        peer_secs = statistics.median(there)
        for what, runs in [("of images shown before", here), ("of new images", new)]:
            secs = statistics.median(found["secs_per_update"] for found in runs)
            print(f"LoRA update {what}, rank {RANK}, {WINDOWS} windows of {CONTEXT} steps, ms (median of {args.repeats} "
                  f"medians): eva-rl {secs * 1e3:.0f}, PEFT {peer_secs * 1e3:.0f}, ratio {peer_secs / secs:.2f}x")  # fmt: skip

        own, peers = [], []
        command = ["eva", "--policy", folder, "--inputs", file, "--batch-size", str(WINDOWS), "--rank", str(RANK)]
        for _ in range(args.repeats):
            own.append(ours(args.binary, *command, "--repeats", "1"))
            peer = fresh()
            peer.load_state_dict(model.state_dict())
            peers.append(peft_eva_secs(peer, parts))
        secs = statistics.median(found["eva_secs"] for found in own)
        peer_secs = statistics.median(secs for secs, _ in peers)
        print(f"EVA, rank {RANK}, batches of {WINDOWS} windows, s: eva-rl {secs:.1f} ({own[0]['batches']} batches), "
              f"PEFT {peer_secs:.1f} ({peers[0][1]} batches), ratio {peer_secs / secs:.1f}x")  # fmt: skip


def windows(args):
    """Windows of 30 steps from the file of 110 episodes, and the memory of a replay that holds them."""
    from minari import MinariDataset

    with tempfile.TemporaryDirectory() as folder:
        data = frames(args, folder, 110)
        found = ours(args.binary, "windows", "--data", data, "--steps", str(CONTEXT))
        dataset = MinariDataset(f"{data}/data")
        dataset.set_seed(1)
        begun, drawn = time.perf_counter(), 0
        while time.perf_counter() - begun < 5.0:
            for episode in dataset.sample_episodes(1):
                _ = episode.observations[:CONTEXT]
            drawn += 1
        peer = (time.perf_counter() - begun) / drawn
        secs = found["secs_per_window"]
        print(f"A window of {CONTEXT} stacks of frames from the disk, ms: eva-rl {secs * 1e3:.2f}, "
              f"minari's sample_episodes {peer * 1e3:.1f}, ratio {peer / secs:.0f}x")  # fmt: skip
        size = (Path(data) / "data/main_data.hdf5").stat().st_size
        command = [args.binary, "bench", "windows", "--data", data, "--in-memory", "--seconds", "1", "--json"]
        reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        held = json.loads(reader.stdout.read())
        _, status, usage = os.wait4(reader.pid, 0)
    assert status == 0
    scale = 100_000 / held["steps"]
    print(f"100,000 steps of Pong-v5: {size * scale / 1e6:.0f} MB on the disk; in a replay "
          f"{held['image_bytes_in_memory'] * scale / 1e9:.2f} GB of frames, peak of the whole program "
          f"{usage.ru_maxrss * 1024 / 1e9:.2f} GB with {held['steps']} steps")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/eva-rl")
    parser.add_argument("--repeats", type=int, default=3)
    measures = [environments, collecting, rollout, training, windows]
    parser.add_argument("--only", choices=[measure.__name__ for measure in measures])
    args = parser.parse_args()
    torch.set_num_threads(2)
    for measure in measures:
        if args.only in (None, measure.__name__):
            measure(args)


if __name__ == "__main__":
    main()
