"""Kill, starve and feed garbage to eva-rl, and count what comes of it. Prints a line a kind, and every fault.

    python tools/reliability/faults.py --binary target/release/eva-rl --kills 100 --disks 32 --mutants 2000

Kills: runs of five kinds are killed by SIGKILL, or told to stop by SIGINT, SIGTERM or SIGHUP, at random times, and
resumed until they end. Weights, optimiser state,
best policy and evaluations must equal those of the same run unkilled to the last byte, and so must metrics.jsonl and
what TensorBoard reads of the event files, clocks apart.
Pairs: two runs are begun into one folder at once. One is made, equal to that alone; the other ends with a sentence.
Disks: a run is made on a file system that is too small, which is made larger afterwards. It must end with exit code
1 and a sentence, and its resumption with the same weights. Needs the right to mount; else nothing is done.
Mutants: files that commands read are changed at random. The program must end with exit code 0, 1 or 2, say at most a
screen, write nothing where it ends with 2, and leave nothing half-written.
"""

import argparse
import concurrent.futures
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LORA = "lora = { rank = 2, alpha = 2.0, dropout = 0.0 }"
ONLINE_DT = "loss={ online_dt = { initial_temperature = 0.1, temperature_learning_rate = 1e-3 } }"
ROUNDS = "exploration = { rounds = 3, updates_per_round = 6 }"
# What each kind of run sets beside the common config.
KINDS = {
    "Online DT": [f"adapter={{ eva = {{ rho = 2.0, tau = 0.9, max_batches = 4, {LORA} }} }}", ONLINE_DT,
                  f"online={{ odt = {{ replay_capacity = 6, {ROUNDS} }} }}"],
    "GRPO": [f"adapter={{ {LORA} }}", ONLINE_DT, "checkpoint.keep=1",
             f"online={{ grpo = {{ group_size = 2, discount = 0.99, clip = 0.2, {ROUNDS} }} }}"],
    "TD3+ODT": [f"adapter={{ {LORA} }}", "loss={ behaviour_cloning = {} }",
                "online={ td3_odt = { replay_capacity = 6, noise = 0.1, rl_weight = 1.0, critic_warmup = 2, "
                "discount = 0.9, lambda = 0.9, critic_width = 8, critic_learning_rate = 1e-3, polyak = 0.05, "
                f"target_noise = 0.1, target_noise_clip = 0.2, policy_delay = 2, {ROUNDS} }} }}"],
    "full": ["adapter={ full_fine_tuning = {} }", "loss={ behaviour_cloning = {} }", "offline.updates=30"],
    "AdaLoRA": ["adapter={ adalora = { target_rank = 2, tinit = 4, tfinal = 4, delta_t = 2, beta1 = 0.85, beta2 = 0.85, "
                "orth_reg_weight = 0.5, lora = { rank = 4, alpha = 4.0, dropout = 0.1 } } }",
                "loss={ behaviour_cloning = {} }", "offline.updates=30"],
}  # fmt: skip
CONFIG = """
seed = 3
policy.pretrained.path = "policy"
data.datasets = ["data"]
adapter.full_fine_tuning = {}
loss.behaviour_cloning = {}
offline.updates = 12
optimiser = { batch_size = 8, learning_rate = 1e-3, weight_decay = 0.0, gradient_clip = 0.25, schedule = { constant = { warmup = 0 } } }
env = { id = "Pendulum-v1", num_envs = 2 }
evaluation = { every = 10, episodes = 2 }
checkpoint = { every = 7 }
"""
PRETRAINED = [
    "policy={ new = { hidden_size = 16, layers = 1, heads = 2, dropout = 0.1, context_length = 4, "
    "max_episode_length = 200, return_scale = 200.0, target_return = -200.0 } }",
]  # fmt: skip
# No process of a mutant's may have more memory than this.
MEMORY = 8 << 30


class Workplace:
    """A folder with a policy, a dataset, an adapter and configs, and the program."""

    def __init__(self, binary, folder):
        self.binary, self.folder = str(Path(binary).resolve()), Path(folder)
        # Some state is not the weights': a run filmed or not, timed or not, is the same.
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
        self("collect", "--env", "Pendulum-v1", "--policy", "scripted", "--noise", "0.3", "--episodes", "4", "--out", "data")
        (self.folder / "config.toml").write_text(CONFIG)
        self("train", "config.toml", *sets(PRETRAINED), "--out", "pretrained")
        shutil.copytree(self.folder / "pretrained/best/policy", self.folder / "policy")
        self("eva", "policy", "--data", "data", "--rank", "2", "--out", "adapter")

    def command(self, *arguments, **options):
        return subprocess.Popen([self.binary, *map(str, arguments)], cwd=self.folder, env=self.environment,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
                                **options)  # fmt: skip

    def __call__(self, *arguments):
        process = self.command(*arguments)
        _, said = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"eva-rl {' '.join(map(str, arguments))}: {said}")
        return said


def sets(texts):
    return [part for text in texts for part in ("--set", text)]


def contents(run):
    """What must be equal of two runs: bytes by name, metrics, and scalars as TensorBoard has them."""
    last = max((run / "checkpoints").iterdir(), key=lambda path: path.name)
    found = {}
    for path in [run / "evaluation.json", *last.rglob("*"), *(run / "best").rglob("*")]:
        if path.is_file() and path.name not in ("state.json", "README.md"):
            found[str(path.relative_to(run))] = path.read_bytes()
    state = json.loads((last / "state.json").read_text())
    state.pop("elapsed_secs")
    found["state"] = state
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clocks = ("time/", "eva/secs")
    found["metrics"] = [
        {key: value for key, value in line.items() if key != "wall_secs"}
        for line in lines
        if not line["tag"].startswith(clocks)
    ]
    for folder in (run, run / "env_steps"):
        found[f"events in {folder.name if folder != run else '.'}"] = {
            tag: values for tag, values in scalars(folder).items() if not tag.startswith(clocks)
        }
    return found


def scalars(folder):
    """Steps and values of every tag, as TensorBoard's reader keeps them: a start forgets all from its step on."""
    kept = {}
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        data, offset = path.read_bytes(), 0
        while offset + 12 <= len(data):
            length = struct.unpack_from("<Q", data, offset)[0]
            event = data[offset + 12 : offset + 12 + length]
            offset += 16 + length
            if len(event) < length:
                break
            step, values, starts = 0, [], False
            for number, value in fields(event):
                if number == 2:
                    step = value
                elif number == 5:
                    values += [dict(fields(entry)) for inner, entry in fields(value) if inner == 1]
                elif number == 7:
                    starts = dict(fields(value)).get(1) == 1
            if starts:
                kept = {tag: [pair for pair in pairs if pair[0] < step] for tag, pairs in kept.items()}
            for value in values:
                if 2 in value:
                    kept.setdefault(value[1].decode(), []).append((step, struct.unpack("<f", value[2])[0]))
    return {tag: [(step, repr(value)) for step, value in pairs] for tag, pairs in kept.items() if pairs}


def fields(message):
    """Numbers and values of a protobuf message's fields."""
    offset = 0

    def varint():
        nonlocal offset
        value, shift = 0, 0
        while True:
            byte = message[offset]
            offset += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while offset < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        length = {1: 8, 5: 4}.get(kind) or varint()
        yield key >> 3, message[offset : offset + length]
        offset += length


def differences(run, reference):
    found, wanted = contents(run), reference
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def left_over(folder):
    return [str(path) for path in folder.rglob(".*.tmp")]


def kills(place, count, draw):
    """Runs that are killed until there were `count` kills, each resumed to its end."""
    references, seconds = {}, {}
    for kind, texts in KINDS.items():
        begun = time.monotonic()
        place("train", "config.toml", *sets(texts), "--out", f"reference-{kind}")
        seconds[kind] = time.monotonic() - begun
        references[kind] = contents(place.folder / f"reference-{kind}")
    killed = runs = 0
    faults = []
    while killed < count:
        kind = list(KINDS)[runs % len(KINDS)]
        run = place.folder / f"killed-{runs}"
        while True:
            begin = ["--resume", run] if (run / "config.toml").exists() else ["config.toml", *sets(KINDS[kind]), "--out", run]
            process = place.command("train", *begin)
            try:
                _, said = process.communicate(timeout=draw.uniform(0, 1.2 * seconds[kind]))
            except subprocess.TimeoutExpired:
                how = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
                process.send_signal(how)
                _, said = process.communicate()
                killed += 1
                if process.returncode not in (-how, 0) or "panicked" in said:
                    faults.append(f"{kind}: {how.name} ended it with {process.returncode}: {said.strip()[-300:]}")
                continue
            if process.returncode != 0 or "panicked" in said:
                faults.append(f"{kind}: exit code {process.returncode}: {said.strip()[-300:]}")
            break
        differing = differences(run, references[kind]) + left_over(run)
        if differing:
            faults.append(f"{kind}, {run.name}: differs in {', '.join(differing)}")
        else:
            shutil.rmtree(run)
        runs += 1
    print(f"kills: {killed} in {runs} runs, {runs - len(faults)} of which equal the unkilled one's to the last byte")
    return faults


def pairs(place, count):
    """Two runs at once into one folder."""
    kind = "GRPO"
    faults, ends = [], []
    wanted = place.folder / f"reference-{kind}"
    if not wanted.exists():
        place("train", "config.toml", *sets(KINDS[kind]), "--out", wanted)
    for number in range(count):
        run = place.folder / f"pair-{number}"
        both = [place.command("train", "config.toml", *sets(KINDS[kind]), "--out", run) for _ in range(2)]
        said = [process.communicate()[1] for process in both]
        codes = sorted(process.returncode for process in both)
        ends.append(tuple(codes))
        if codes[0] != 0 or codes[1] not in (1, 2) or any("panicked" in text for text in said):
            faults.append(f"a pair ended with {codes}: {' / '.join(text.strip()[-200:] for text in said)}")
        elif differing := differences(run, contents(wanted)):
            faults.append(f"a pair's run differs in {', '.join(differing)}")
    print(f"pairs: {count}; ended " + ", ".join(f"{ends.count(end)} with {list(end)}" for end in sorted(set(ends))))
    return faults


def disks(place, count):
    """Runs on file systems of growing sizes."""
    kind = "Online DT"
    reference = place.folder / f"reference-{kind}"
    if not reference.exists():
        place("train", "config.toml", *sets(KINDS[kind]), "--out", reference)
    wanted = contents(reference)
    size = sum(path.stat().st_blocks * 512 for path in reference.rglob("*") if path.is_file())
    disk, faults, ends, resumed = place.folder / "disk", [], {}, 0
    disk.mkdir()
    for number in range(count):
        kib = 8 + (size // 1024) * number // count
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", disk], capture_output=True)
        if mounted.returncode != 0:
            print("disks: skipped, because nothing can be mounted here")
            return []
        try:
            process = place.command("train", "config.toml", *sets(KINDS[kind]), "--out", disk / "run")
            _, said = process.communicate()
            ends[process.returncode] = ends.get(process.returncode, 0) + 1
            if process.returncode not in (0, 1) or "panicked" in said:
                faults.append(f"{kib} KiB: exit code {process.returncode}: {said.strip()[-300:]}")
            subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
            if (disk / "run/config.toml").exists() and process.returncode != 0:
                process = place.command("train", "--resume", disk / "run")
                _, said = process.communicate()
                if process.returncode != 0:
                    faults.append(f"{kib} KiB, resumed: exit code {process.returncode}: {said.strip()[-300:]}")
                elif differing := differences(disk / "run", wanted):
                    faults.append(f"{kib} KiB, resumed: differs in {', '.join(differing)}")
                else:
                    resumed += 1
        finally:
            subprocess.run(["umount", disk], check=True)
    said = ", ".join(f"{times} with exit code {code}" for code, times in sorted(ends.items()))
    print(f"disks: {count} sizes up to {size // 1024} KiB; ended {said}; {resumed} were resumed to the same bytes")
    return faults


def mutated(data, draw, is_text):
    """Other bytes than `data`."""
    data = bytearray(data)
    odd = [b"-1", b"0", b"1e308", b"NaN", b"null", b"[]", b"{}", b"\"\"", b"999999999999", b"true", b"\xff\xfe", b"../x"]
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        if not data:
            break
        at = draw.randrange(len(data))
        match draw.randrange(6 if is_text else 4):
            case 0:
                data[at] = draw.randrange(256)
            case 1:
                del data[at : at + draw.randrange(1, 50)]
            case 2:
                data[at:at] = data[max(0, at - 30) : at]
            case 3:
                data[at] ^= 1 << draw.randrange(8)
            case _:
                end = at
                while end < len(data) and chr(data[end]) in "0123456789.-e":
                    end += 1
                data[at:end] = draw.choice(odd)
    return bytes(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.1 else data)


def mutants(place, count, draw):
    """Commands on files of which one was changed."""
    place("train", "config.toml", *sets(KINDS["AdaLoRA"]), "--out", "finished")
    place("train", "config.toml", *sets([*KINDS["full"], "offline.updates=8"]), "--out", "stopped")
    (place.folder / "stopped/README.md").unlink()
    (place.folder / "grid.toml").write_text('configs = ["config.toml"]\nseeds = [1, 2]\n[[axes]]\nchoices = { a = ["seed=1"], b = [] }\n')
    statistics = json.loads((place.folder / "policy/config.json").read_text())
    keys = ("state_mean", "state_std", "return_scale", "target_return", "context_length")
    (place.folder / "statistics.json").write_text(json.dumps({key: statistics[key] for key in keys}))
    evaluate = ["evaluate", "policy", "--env", "Pendulum-v1", "--episodes", "1", "--num-envs", "1"]
    # Of each target: what is copied, the file that is changed, and the command; OUT is what it writes.
    targets = [
        ("config.toml", "config.toml", ["train", "config.toml", "--set", "offline.updates=1", "--out", "OUT"]),
        ("policy", "policy/config.json", evaluate),
        ("policy", "policy/model.safetensors", evaluate),
        ("adapter", "adapter/adapter_config.json", ["merge", "policy", "--adapter", "adapter", "--out", "OUT"]),
        ("adapter", "adapter/adapter_model.safetensors", ["merge", "policy", "--adapter", "adapter", "--out", "OUT"]),
        ("data", "data/data/metadata.json", ["inspect", "data"]),
        ("data", "data/data/main_data.hdf5", ["eva", "policy", "--data", "data", "--rank", "1", "--max-batches", "2", "--out", "OUT"]),
        ("grid.toml", "grid.toml", ["sweep", "grid.toml", "--dry-run", "--out", "OUT"]),
        ("statistics.json", "statistics.json", [*evaluate, "--statistics", "statistics.json"]),
        ("finished", "finished/evaluation.json", ["report", "finished", "--out", "OUT"]),
        ("finished", "finished/metrics.jsonl", ["report", "finished", "--out", "OUT"]),
        ("stopped", "stopped/evaluation.json", ["train", "--resume", "stopped", "--set", "offline.updates=10"]),
        ("stopped", "stopped/checkpoints/*/state.json", ["train", "--resume", "stopped", "--set", "offline.updates=10"]),
        ("stopped", "stopped/checkpoints/*/training_state.safetensors", ["train", "--resume", "stopped", "--set", "offline.updates=10"]),
        ("stopped", "stopped/config.toml", ["inspect", "stopped"]),
    ]  # fmt: skip
    orders = [(number, *targets[number % len(targets)], draw.randrange(1 << 30)) for number in range(count)]

    def one(order):
        number, source, pattern, arguments, seed = order
        draw = random.Random(seed)
        folder = place.folder / f"mutant-{number}"
        folder.mkdir()
        for name in ("config.toml", "policy", "data"):
            (folder / name).symlink_to(place.folder / name)
        (folder / source).unlink(missing_ok=True)
        copy = shutil.copytree if (place.folder / source).is_dir() else shutil.copy
        copy(place.folder / source, folder / source)
        path = draw.choice(sorted(folder.glob(pattern)))
        is_text = path.suffix in (".json", ".toml", ".jsonl")
        path.write_bytes(mutated(path.read_bytes(), draw, is_text))
        limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))  # noqa: E731
        process = subprocess.Popen([place.binary, *arguments], cwd=folder, env=place.environment, preexec_fn=limit,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")  # fmt: skip
        fault = None
        try:
            _, said = process.communicate(timeout=60)
            if process.returncode not in (0, 1, 2) or "panicked" in said:
                fault = f"exit code {process.returncode}: {said.strip()[-300:]}"
            elif process.returncode == 2 and (folder / "OUT").exists():
                fault = f"exit code 2, and it wrote: {said.strip()[-300:]}"
            elif any(len(line) > 1200 for line in said.splitlines()):
                fault = f"a line of {max(map(len, said.splitlines()))} characters"
            elif process.returncode != 0 and not said.strip():
                fault = "it said nothing"
            elif left := left_over(folder):
                fault = f"left {left}"
        except subprocess.TimeoutExpired:
            # A config may ask for years of work; such a run is stopped.
            process.kill()
            process.communicate()
        code = process.returncode
        if fault is None:
            shutil.rmtree(folder)
        return code, fault and f"{pattern} in {folder}: {fault}"

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        ends = list(pool.map(one, orders))
    codes = [code for code, _ in ends]
    said = ", ".join(f"{codes.count(code)} with exit code {code}" for code in sorted(set(codes)))
    print(f"mutants: {count} of {len(targets)} kinds of files; ended {said}")
    return [fault for _, fault in ends if fault]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/eva-rl")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--disks", type=int, default=32)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the folder, where faults lie")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    folder = tempfile.mkdtemp(prefix="eva-rl-faults-")
    try:
        place = Workplace(args.binary, folder)
        faults = kills(place, args.kills, draw) if args.kills else []
        faults += pairs(place, args.pairs) if args.pairs else []
        faults += disks(place, args.disks) if args.disks else []
        faults += mutants(place, args.mutants, draw) if args.mutants else []
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"{len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
