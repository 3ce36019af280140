"""Kill a rank of a run at a random moment, again and again, and resume it each time: on the same number of ranks it must end
in the same bits as the run that was never stopped, and on others like it.

    python3 tools/reliability/rank_kills.py --binary target/release/eva-rl --mpirun .mpi/bin/mpirun --kills 20 --ranks 2
    python3 tools/reliability/rank_kills.py --binary target/release/eva-rl --mpirun .mpi/bin/mpirun --kills 20 --ranks 2 3
"""

import argparse
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ["--set", "offline.updates=60", "--set", "evaluation.episodes=4", "--set", "checkpoint.every=5"]
LIMIT = 10.0


def launch(args, ranks, arguments):
    command = [args.mpirun, "--allow-run-as-root", "--oversubscribe", "-n", str(ranks), args.binary, *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def ranks_of(launcher, binary):
    """Processes of the program below a launcher."""
    found, below = [], {launcher.pid}
    for _ in range(4):
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent in below:
                    below.add(int(path.name))
                    if os.path.realpath(path / "exe") == os.path.realpath(binary):
                        found.append(int(path.name))
            except (OSError, IndexError):
                pass
    return sorted(set(found))


def tensors(path):
    """Name and numbers of every float32 tensor of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    for name, facts in head.items():
        if name != "__metadata__":
            start, end = facts["data_offsets"]
            yield name, struct.unpack(f"<{(end - start) // 4}f", body[start:end])


def difference(one, other):
    """How far two adapters lie apart, over the size of the first."""
    apart = size = 0.0
    for (name, left), (also, right) in zip(tensors(one), tensors(other), strict=True):
        assert name == also
        apart += sum((a - b) ** 2 for a, b in zip(left, right, strict=True))
        size += sum(a * a for a in left)
    return (apart / size) ** 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/eva-rl"))
    parser.add_argument("--mpirun", default=str(ROOT / ".mpi/bin/mpirun"))
    parser.add_argument("--config", default=str(ROOT / "configs/demo.toml"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2], help="of which each part of the run has one number")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as name:
        whole, killed = Path(name) / "whole", Path(name) / "killed"
        first = ["train", args.config, *SETTINGS, "--out"]
        begun = time.monotonic()
        process = launch(args, args.ranks[0], [*first, str(whole)])
        said = process.communicate()[1]
        assert process.returncode == 0, said
        took, kills, slowest = time.monotonic() - begun, 0, 0.0
        while True:
            arguments = ["train", "--resume", str(killed)] if killed.exists() else [*first, str(killed)]
            process = launch(args, draw.choice(args.ranks), arguments)
            limit = draw.uniform(0.0, took / 4) if kills < args.kills else 100 * took
            try:
                said = process.communicate(timeout=limit)[1]
                assert process.returncode == 0, said
                if kills >= args.kills:
                    break
                shutil.rmtree(killed)  # it ended before it could be killed: once more from its beginning
                continue
            except subprocess.TimeoutExpired:
                pass
            if not (own := ranks_of(process, args.binary)):
                process.kill()  # no rank had begun
                process.communicate()
                continue
            os.kill(draw.choice(own), signal.SIGKILL)
            kills, at = kills + 1, time.monotonic()
            process.communicate()
            while left := [pid for pid in own if Path(f"/proc/{pid}").exists()]:
                assert time.monotonic() - at < LIMIT, f"{left} are left"
                time.sleep(0.05)
            slowest = max(slowest, time.monotonic() - at)
        adapter = sorted((whole / "checkpoints").iterdir())[-1].name + "/adapter/adapter_model.safetensors"
        apart = difference(whole / "checkpoints" / adapter, killed / "checkpoints" / adapter)
        print(f"{kills} kills, each ended all ranks within {slowest:.1f} s; the adapters lie {apart:.1e} of their size apart")
        same = len(args.ranks) == 1
        return 0 if apart == 0.0 or not same and apart < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
