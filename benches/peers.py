"""Measure eva-rl beside its peers, in one run on one machine, and print the ratios.

Environments: Gymnasium's numpy CartPoleVectorEnv and EnvPool, 1024 environments.
MuJoCo: EnvPool, 64 environments of four of Gymnasium's tasks, random actions.
Policy: one batched transformers forward, 64 windows of K = 20, of a 3 x 128 and a 4 x 256 decision transformer,
beside the same forward here.
Update: a LoRA update of PEFT (forward, backward, clipping, AdamW) of the same two policies on the same windows,
without dropout; the loss of the first is checked to be ours.
Rollout: 64 HalfCheetah-v5 and the 3 x 128 policy by windows and by the cache, in halves and on one thread, beside a
Python loop of EnvPool and transformers, which has whole windows.
Loading: peak memory of the program while a policy of 1 GB is read, over the size of its file.
Bridge: EnvPool and Gymnasium through Python workers, beside the same stepped from Python, where a step of
EnvPool's that only begins an ended episode anew is no step, and Gymnasium has as many processes as environments.
Each pair is measured in turn, several times over; the medians are compared.

    python benches/peers.py --binary target/release/eva-rl
"""

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ENVS = 1024
PHYSICS = 64
WINDOWS = 64
CONTEXT = 20


def ours(binary, *arguments):
    out = subprocess.run([binary, "bench", *arguments, "--json"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def steps_per_sec(step, seconds=2.0, num_envs=ENVS):
    for _ in range(20):
        step()
    steps, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for _ in range(20):
            step()
        steps += 20 * num_envs
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


def make_policy(folder, layers=3, width=128, state=3, action=1, bound=2.0, **more):
    """A policy with random weights, by default for Pendulum, with the keys that acting needs and `more` of them."""
    import torch
    from transformers import DecisionTransformerConfig, DecisionTransformerModel

    torch.manual_seed(0)
    keys = {
        "context_length": CONTEXT,
        "state_mean": [0.0] * state,
        "state_std": [1.0] * state,
        "return_scale": 100.0,
        "target_return": -100.0,
        "action_low": [-bound] * action,
        "action_high": [bound] * action,
    }
    sizes = {"n_layer": layers, "hidden_size": width, "n_head": 4, "n_positions": 64, "max_ep_len": 200}
    config = DecisionTransformerConfig(state_dim=state, act_dim=action, **sizes, **keys, **more)
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


def replay(args):
    """Peak memory of a run whose replay holds 1,000 trajectories of 1,000 Hopper steps: random play falls after a
    few, so the last rows of its episodes are repeated, which costs a replay as much as others."""
    import h5py
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/hopper-v0"
        command = [args.binary, "collect", "--env", "Hopper-v5", "--policy", "random", "--episodes", "1000"]
        subprocess.run([*command, "--out", data], check=True, capture_output=True)
        with h5py.File(f"{data}/data/main_data.hdf5", "r+") as file:
            for episode in file.values():
                lengths = {"observations": 1001, "actions": 1000, "rewards": 1000}
                for name, length in lengths.items():
                    rows = episode[name][()]
                    del episode[name]
                    episode[name] = rows[np.minimum(np.arange(length), len(rows) - 1)]
                for name, at_the_end in {"terminations": False, "truncations": True}.items():
                    del episode[name]
                    episode[name] = np.append(np.zeros(999, bool), at_the_end)
                episode.attrs["total_steps"] = 1000
        command = [args.binary, "train", "configs/online-hopper.toml", "--out", f"{folder}/run"]
        online = "{ odt = { replay_capacity = 1000, exploration = { rounds = 1, updates_per_round = 10 } } }"
        for text in [f"data.datasets=['{data}']", f"online={online}", "evaluation.episodes=4"]:
            command += ["--set", text]
        trainer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(trainer.pid, 0)
    assert status == 0
    print(f"Online DT on Hopper-v5 with 1,000,000 steps in its replay: peak {usage.ru_maxrss / 1024:.0f} MB")


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


def envpool_physics_speed(env_id):
    import envpool
    import numpy as np

    envs = envpool.make(env_id, env_type="gymnasium", num_envs=PHYSICS, num_threads=os.cpu_count())
    envs.reset()
    space, rng = envs.action_space, np.random.default_rng(0)
    draws = itertools.cycle([rng.uniform(space.low, space.high, (PHYSICS, *space.shape)) for _ in range(16)])
    return steps_per_sec(lambda: envs.step(next(draws)), num_envs=PHYSICS)


def hopper_peak_kib(binary, count):
    """Most memory that a pool of Hoppers held after two of four seconds."""
    command = [binary, "bench", "env", "--env", "Hopper-v5", "--num-envs", str(count), "--seconds", "4"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    time.sleep(2)
    status = Path(f"/proc/{process.pid}/status").read_text()
    process.wait()
    return int(status.split("VmHWM:")[1].split()[0])


def physics(args):
    print(f"MuJoCo, {PHYSICS} environments, random actions, steps per second (median of {args.repeats}):")
    for env_id in ["Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5"]:
        command = ["env", "--env", env_id, "--num-envs", str(PHYSICS)]
        here, there = [], []
        for _ in range(args.repeats):
            here.append(ours(args.binary, *command)["steps_per_sec"])
            there.append(envpool_physics_speed(env_id))
        here, there = statistics.median(here), statistics.median(there)
        print(f"  {env_id:14} eva-rl {here:6.0f}, EnvPool {there:6.0f}, ratio {here / there:.2f}x")
    few, many = (hopper_peak_kib(args.binary, count) for count in (PHYSICS, PHYSICS + 1000))
    print(f"  a further Hopper-v5: {(many - few) * 1024 / 1000 / 1e6:.2f} MB")


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


class PythonLoop:
    """EnvPool's environments and transformers' model, one batched forward over the last steps a step."""

    def __init__(self, model, env_id, num_envs, return_scale):
        import envpool
        import torch

        torch.set_num_threads(2)
        self.model, self.return_scale = model, return_scale
        self.envs = envpool.make(env_id, env_type="gymnasium", num_envs=num_envs, num_threads=os.cpu_count())
        self.states = torch.zeros(num_envs, 1, model.config.state_dim)
        self.states[:, 0] = torch.as_tensor(self.envs.reset()[0])
        self.actions = torch.zeros(num_envs, 1, model.config.act_dim)
        self.to_go = torch.full((num_envs, 1, 1), model.config.target_return / return_scale)
        self.timesteps = torch.zeros(num_envs, 1, dtype=torch.long)

    def step(self):
        """Seconds of the policy and of the environments. Episodes are all as long here."""
        import torch

        begun = time.perf_counter()
        with torch.inference_mode():
            found = self.model(
                states=self.states[:, -CONTEXT:],
                actions=self.actions[:, -CONTEXT:],
                returns_to_go=self.to_go[:, -CONTEXT:],
                timesteps=self.timesteps[:, -CONTEXT:],
                attention_mask=torch.ones_like(self.timesteps[:, -CONTEXT:]),
            )
        action = found.action_preds[:, -1]
        chosen = time.perf_counter()
        state, reward, *_ = self.envs.step(action.double().numpy())
        stepped = time.perf_counter()
        self.actions[:, -1] = action
        reward = torch.as_tensor(reward, dtype=torch.float32)[:, None, None] / self.return_scale
        grow = lambda all, new: torch.cat([all, new], 1)[:, -CONTEXT:]  # noqa: E731
        self.states = grow(self.states, torch.as_tensor(state, dtype=torch.float32)[:, None])
        self.actions = grow(self.actions, torch.zeros_like(self.actions[:, :1]))
        self.to_go = grow(self.to_go, self.to_go[:, -1:] - reward)
        last = self.model.config.max_ep_len - 1
        self.timesteps = grow(self.timesteps, (self.timesteps[:, -1:] + 1).clamp(max=last))
        return chosen - begun, stepped - chosen

    def measure(self, seconds=3.0):
        """Seconds of a step, of its policy and of its environments, with full contexts."""
        for _ in range(CONTEXT):
            self.step()
        parts, begun = [], time.perf_counter()
        while time.perf_counter() - begun < seconds:
            parts.append(self.step())
        whole = (time.perf_counter() - begun) / len(parts)
        return [whole, *(statistics.mean(part) for part in zip(*parts))]


def rollout(args):
    with tempfile.TemporaryDirectory() as folder:
        model = make_policy(folder, state=17, action=6, bound=1.0)
        command = ["rollout", "--policy", folder, "--env", "HalfCheetah-v5", "--num-envs", str(WINDOWS)]

        def own(*arguments):
            found = ours(args.binary, *command, "--seconds", "1", *arguments)
            return [WINDOWS / found["steps_per_sec"], found["policy_secs_per_step"], found["env_secs_per_step"]]

        ways = {
            "windows": ["--inference", "window"],
            "windows, one thread": ["--inference", "window", "--whole"],
            "cached": ["--inference", "cached"],
            "cached, one thread": ["--inference", "cached", "--whole"],
        }
        found = {way: [] for way in [*ways, "Python"]}
        for _ in range(args.repeats):
            for way, arguments in ways.items():
                found[way].append(own(*arguments))
            found["Python"].append(PythonLoop(model, "HalfCheetah-v5", WINDOWS, 100.0).measure())
    print(f"3 x 128 policy, {WINDOWS} HalfCheetah-v5, K = {CONTEXT}, ms per step (median of {args.repeats}):")
    print("  way                     whole    policy  environments  Python / way")
    medians = {way: [statistics.median(column) for column in zip(*figures)] for way, figures in found.items()}
    for way, (whole, policy, envs) in medians.items():
        ratio = medians["Python"][0] / whole
        print(f"  {way:20} {whole * 1e3:8.2f} {policy * 1e3:9.2f} {envs * 1e3:13.2f} {ratio:12.1f}x")


# The maps that EVA adapts in a Hugging Face decision transformer.
SITES = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
BATCHES = 40


def random_batches(state=3, action=1):
    """The same random windows for everybody: 40 batches of 64."""
    import torch

    generator = torch.Generator().manual_seed(1)
    windows = BATCHES * WINDOWS
    return {
        "states": torch.randn(windows, CONTEXT, state, generator=generator),
        "actions": torch.randn(windows, CONTEXT, action, generator=generator),
        "returns_to_go": torch.randn(windows, CONTEXT, 1, generator=generator),
        "timesteps": torch.randint(0, 200 - CONTEXT, (windows, 1), generator=generator) + torch.arange(CONTEXT),
        "attention_mask": torch.ones(windows, CONTEXT, dtype=torch.long),
    }


def exact_spectra(model, batches):
    """Eigenvalues and directions of each site's covariance over all batches, in float64."""
    import torch

    sums = {}

    def watch(name):
        def hook(module, inputs, output):
            x = inputs[0].flatten(0, -2).double()
            count, total, products = sums.get(name, (0, 0, 0))
            sums[name] = (count + len(x), total + x.sum(0), products + x.T @ x)

        return hook

    hooks = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if name.endswith(tuple(SITES))
    ]
    with torch.inference_mode():
        for batch in batches:
            model(**batch)
    for hook in hooks:
        hook.remove()
    spectra = {}
    for name, (count, total, products) in sums.items():
        values, vectors = torch.linalg.eigh(products / count - torch.outer(total, total) / count**2)
        spectra[name] = values.flip(0), vectors.flip(1).T
    return spectra


def closeness(directions, spectra):
    """Principal angles to the exact leading subspace of the same rank: the mean over sites of the root mean
    square and of the largest, in degrees; and the variance lost by not having it."""
    import torch

    mean_square, largest, lost = [], [], []
    for name, a in directions.items():
        values, exact = spectra[name]
        a, rank = a.double(), len(a)
        cosines = torch.linalg.svdvals(a @ exact[:rank].T).clamp(max=1)
        mean_square.append((1 - cosines**2).mean().sqrt().asin().rad2deg())
        largest.append(cosines.min().acos().rad2deg())
        lost.append(1 - ((a @ exact.T) ** 2 @ values).sum() / values[:rank].sum())
    return [float(torch.stack(figures).mean()) for figures in (mean_square, largest, lost)]


def peft_eva(folder, batches, rank):
    """PEFT's own initialisation: seconds, forwards, directions."""
    import torch
    from peft import LoraConfig, get_peft_model, initialize_lora_eva_weights
    from peft.tuners.lora import EvaConfig
    from transformers import DecisionTransformerModel

    torch.set_num_threads(2)
    model = DecisionTransformerModel.from_pretrained(folder).eval()
    sizes = {"r": rank, "lora_alpha": 1, "target_modules": SITES, "fan_in_fan_out": True}
    eva = {"init_lora_weights": "eva", "eva_config": EvaConfig(rho=2.0, tau=0.99)}
    adapted = get_peft_model(model, LoraConfig(**sizes, **eva))
    forwards = []

    def forward(model, batch):
        forwards.append(1)
        model(**batch)

    begun = time.perf_counter()
    initialize_lora_eva_weights(
        adapted,
        dataloader=batches,
        forward_fn=forward,
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=None,
        show_progress_bar=False,
    )
    secs = time.perf_counter() - begun
    found = {
        name: module.lora_A["default"].weight.detach()
        for name, module in adapted.base_model.model.named_modules()
        if "default" in getattr(module, "lora_A", {})
    }
    return secs, len(forwards), found


def own_eva(binary, folder, inputs, rank, arguments):
    """Ours: the benchmark's figures, directions."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as out:
        adapter = str(Path(out) / "adapter")
        command = ["eva", "--policy", folder, "--inputs", inputs, "--rank", str(rank), "--out", adapter]
        figures = ours(binary, *command, *arguments)
        tensors = load_file(Path(adapter) / "adapter_model.safetensors")
    prefix, suffix = "base_model.model.", ".lora_A.weight"
    found = {key[len(prefix) : -len(suffix)]: a for key, a in tensors.items() if key.endswith(suffix)}
    return figures, found


def fewest_batches(binary, folder, inputs, rank, spectra, angle):
    """Batches after which ours is within `angle` of the exact components."""
    for batches in range(2, BATCHES):
        _, found = own_eva(binary, folder, inputs, rank, ["--tau", "1", "--max-batches", str(batches), "--repeats", "1"])
        if closeness(found, spectra)[0] <= angle:
            return batches
    return BATCHES


def eva(args):
    from safetensors.torch import save_file

    ways = {
        "eva-rl": [],
        "eva-rl, all of the data": ["--tau", "1"],
        "eva-rl, gram, all of it": ["--solver", "gram", "--tau", "1"],
        "eva-rl, PEFT's algorithm": ["--solver", "incremental", "--stop", "component_cosine"],
        "eva-rl, PEFT's rule": ["--stop", "component_cosine"],
    }
    # Pendulum's numbers of states and actions, and Hopper's.
    for layers, width, rank, state, action in [(3, 128, 8, 3, 1), (3, 128, 8, 11, 3), (4, 256, 16, 11, 3)]:
        print(f"EVA, {layers} x {width}, rank {rank}, {BATCHES} batches of {WINDOWS} x {CONTEXT} steps of {state} states "
              f"and {action} actions, over and over:")  # fmt: skip
        print("  way                          secs  forwards  / forwards alone  / PEFT  rms angle  largest  variance lost")
        with tempfile.TemporaryDirectory() as folder:
            model = make_policy(folder, layers, width, state, action)
            inputs = random_batches(state, action)
            file = str(Path(folder) / "inputs.safetensors")
            save_file(inputs, file)
            cut = [{key: value[i * WINDOWS : (i + 1) * WINDOWS] for key, value in inputs.items()} for i in range(BATCHES)]
            spectra = exact_spectra(model, cut)
            small = layers == 3  # the larger one takes PEFT and the exact covariance minutes
            tried = ways if small else {way: ways[way] for way in ["eva-rl", "eva-rl, PEFT's algorithm"]}
            runs = {"PEFT": []}
            for _ in range(args.repeats if small else 1):
                secs, forwards, found = peft_eva(folder, cut, rank)
                if not runs["PEFT"]:
                    enough = fewest_batches(args.binary, folder, file, rank, spectra, closeness(found, spectra)[0])
                    tried = {"eva-rl, until as close": ["--tau", "1", "--max-batches", str(enough)], **tried}
                    runs.update({way: [] for way in tried})
                runs["PEFT"].append((secs, forwards, float("nan"), found))
                for way, arguments in tried.items():
                    figures, found = own_eva(args.binary, folder, file, rank, ["--repeats", "3", *arguments])
                    runs[way].append((figures["eva_secs"], figures["batches"], figures["ratio"], found))
            peer = statistics.median(run[0] for run in runs["PEFT"])
            for way, found in runs.items():
                secs, ratio = (statistics.median(run[column] for run in found) for column in (0, 2))
                rms, largest, lost = closeness(found[-1][3], spectra)
                print(f"  {way:26} {secs:6.2f} {found[-1][1]:9} {ratio:17.2f} {peer / secs:6.1f}x {rms:9.2f}° "
                      f"{largest:7.1f}° {lost:14.1e}")  # fmt: skip


def peft_update_secs(folder, batches, rank, dora, seconds):
    """PEFT's LoRA or DoRA updates: the loss of the first, and the median of the others' seconds."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import DecisionTransformerModel

    torch.set_num_threads(2)
    model = DecisionTransformerModel.from_pretrained(folder)
    sizes = {"r": rank, "lora_alpha": 1, "target_modules": SITES, "fan_in_fan_out": True}
    model = get_peft_model(model, LoraConfig(**sizes, use_dora=dora)).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
    losses, secs, begun = [], [], time.perf_counter()
    for batch in itertools.cycle(batches):
        if len(secs) >= 4 and time.perf_counter() - begun >= seconds:
            return losses[0], statistics.median(secs[1:])
        started = time.perf_counter()
        loss = torch.nn.functional.mse_loss(model(**batch).action_preds, batch["actions"])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.25)
        optimiser.step()
        secs.append(time.perf_counter() - started)
        losses.append(loss.item())


def update(args):
    from safetensors.torch import save_file

    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    print(f"Updates, {WINDOWS} windows, K = {CONTEXT}, seconds (median of {args.repeats} medians):")
    for layers, width, rank, dora in [(3, 128, 8, False), (3, 128, 8, True), (4, 256, 16, False)]:
        with tempfile.TemporaryDirectory() as folder:
            make_policy(folder, layers, width, 11, 3, **still)
            inputs = random_batches(11, 3)
            file = str(Path(folder) / "inputs.safetensors")
            save_file(inputs, file)
            cut = [{key: value[i * WINDOWS : (i + 1) * WINDOWS] for key, value in inputs.items()} for i in range(BATCHES)]
            command = ["update", "--policy", folder, "--inputs", file, "--rank", str(rank), "--seconds", "4"]
            command += ["--dora"] if dora else []
            here, there = [], []
            for _ in range(args.repeats):
                here.append(ours(args.binary, *command))
                loss, secs = peft_update_secs(folder, cut, rank, dora, 4.0)
                there.append(secs)
                assert abs(here[-1]["first_loss"] - loss) < 1e-5 * loss, (here[-1]["first_loss"], loss)
        keys = ["secs_per_update", "inputs_secs", "forward_secs", "backward_secs", "optimiser_secs"]
        secs, *parts = (statistics.median(figures[key] for figures in here) for key in keys)
        peer = statistics.median(there)
        parts = ", ".join(f"{key[:-5]} {part * 1e3:.1f}" for key, part in zip(keys[1:], parts))
        method = "DoRA" if dora else "LoRA"
        print(f"  {method}, {layers} x {width}, rank {rank}: eva-rl {secs * 1e3:.1f} ms ({parts}), PEFT {peer * 1e3:.1f} ms, "
              f"ratio {peer / secs:.2f}x")  # fmt: skip


def python_speed(envs, num_envs, autoresets, seconds):
    """Transitions a second, with actions drawn beforehand."""
    import numpy as np

    space, draw = envs.single_action_space, np.random.default_rng(0)
    if space.shape == ():
        actions = [draw.integers(0, space.n, num_envs) for _ in range(16)]
    else:
        sizes = num_envs, *space.shape
        actions = [draw.uniform(space.low, space.high, sizes).astype(space.dtype) for _ in range(16)]
    envs.reset()
    steps, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for action in actions:
            _, _, terminated, truncated, _ = envs.step(action)
            steps += num_envs - autoresets * int((terminated | truncated).sum())
    speed = steps / (time.perf_counter() - begun)
    envs.close()
    return speed


def bridge(args):
    import envpool
    import gymnasium

    cases = [
        ("envpool:CartPole-v1", 1024, {}),
        ("envpool:MetaWorld/Reach-v3", 64, {"partially_observable": False}),
        ("envpool:Hopper-v5", 64, {}),
        *((f"gymnasium:{name}", processes, {}) for name in ["CartPole-v1", "Pendulum-v1"] for processes in [2, 8]),
    ]
    print(f"Through Python workers, transitions per second (median of {args.repeats}):")
    for name, count, kwargs in cases:
        library, inner = name.split(":")
        command = ["env", "--env", name, "--num-envs", str(count), "--seconds", "1"]
        command += [f"--env-kwarg={key}={json.dumps(value)}" for key, value in kwargs.items()]
        if library == "gymnasium":
            command += ["--env-processes", str(count)]
        here, there = [], []
        for _ in range(args.repeats):
            here.append(ours(args.binary, *command)["steps_per_sec"])
            if library == "envpool":
                envs = envpool.make(inner, env_type="gymnasium", num_envs=count, **kwargs)
            else:
                # The default mode begins an ended episode in a step of its own too.
                envs = gymnasium.make_vec(inner, num_envs=count, vectorization_mode="async", **kwargs)
            there.append(python_speed(envs, count, True, 1.0))
        here, there = statistics.median(here), statistics.median(there)
        print(f"  {name:28} {count:5}  eva-rl {here:10.0f}  from Python {there:10.0f}  ratio {here / there:.2f}x")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/eva-rl")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--only",
        choices=["loading", "replay", "environments", "mujoco", "forward", "rollout", "eva", "update", "bridge"],
    )
    args = parser.parse_args()
    for name, measure in [
        ("loading", loading),
        ("replay", replay),
        ("environments", environments),
        ("mujoco", physics),
        ("forward", forward),
        ("rollout", rollout),
        ("eva", eva),
        ("update", update),
        ("bridge", bridge),
    ]:
        if args.only in (None, name):
            measure(args)


if __name__ == "__main__":
    main()
