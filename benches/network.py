"""Measure what an update of two ranks waits for a network between them, and say by a model what more ranks would wait.

    sudo .venv/bin/python benches/network.py --binary target/release/eva-rl --mpirun .mpi/bin/mpirun

Each rank has a network namespace, so this needs root, `ip` and `tc`. `tc` limits the rate. Not every kernel has its netem,
so frames of the slow link are held back for its delay on their way between two TAP devices.
"""

import argparse
import collections
import contextlib
import ctypes
import fcntl
import json
import math
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import scaling

SPACES = ("eva-rl-a", "eva-rl-b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
DEVICE = "data0"
NEW_NETWORK, IFF_TAP, IFF_NO_PI, TUNSETIFF = 0x40000000, 0x0002, 0x1000, 0x400454CA
JUMBO = 9000
WINDOWS = 512  # of the batch that many ranks share

# Collectives over shared memory would leave the network out.
OVER_TCP = "--mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 --mca coll ^sm,han,acoll,xhc"
YIELD = "--mca mpi_yield_when_idle 1"


def inside(space, work):
    """What `work` gives in a network namespace, which is a thread's."""
    found = []

    def enter():
        with open(f"/run/netns/{space}") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), NEW_NETWORK):
                raise SystemExit(f"cannot enter the namespace {space}: {os.strerror(ctypes.get_errno())}")
        found.append(work())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return found[0]


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def tap(space):
    """The descriptor of a new TAP device of a namespace."""

    def make():
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TAP | IFF_NO_PI))
        return device

    return inside(space, make)


def relay(source, sink, delay):
    """Hands on every frame `delay` seconds after it came."""
    held, some = collections.deque(), threading.Condition()

    def read():
        with contextlib.suppress(OSError):  # the device is gone with its namespace
            while True:
                frame = os.read(source, JUMBO + 100)
                with some:
                    held.append((time.perf_counter() + delay, frame))
                    some.notify()

    def write():
        while True:
            with some:
                while not held:
                    some.wait()
                due, frame = held.popleft()
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            with contextlib.suppress(OSError):  # while the other end is not up yet
                os.write(sink, frame)

    for work in (read, write):
        threading.Thread(target=work, daemon=True).start()


def connect(rate, delay):
    """Two namespaces with a link of this rate, and delay each way in seconds where there is one."""
    for space in SPACES:
        subprocess.run(["ip", "netns", "del", space], stderr=subprocess.DEVNULL)
        ip("netns", "add", space)
    if delay:
        first, second = (tap(space) for space in SPACES)
        relay(first, second, delay)
        relay(second, first, delay)
    else:
        ip("link", "add", DEVICE, "netns", SPACES[0], "type", "veth", "peer", "name", DEVICE, "netns", SPACES[1])
    for space, address in zip(SPACES, ADDRESSES):
        ip("-n", space, "addr", "add", f"{address}/24", "dev", DEVICE)
        for device in ("lo", DEVICE):
            ip("-n", space, "link", "set", device, "up")
        ip("-n", space, "link", "set", DEVICE, "mtu", str(JUMBO))
        limit = ["root", "tbf", "rate", rate, "burst", "256kb", "latency", "400ms"]
        subprocess.run(["tc", "-n", space, "qdisc", "add", "dev", DEVICE, *limit], check=True)


def round_trip():
    """Seconds that a few bytes take to the other namespace and back: the median of 200."""
    server = inside(SPACES[1], lambda: socket.create_server((ADDRESSES[1], 7777)))

    def echo():
        peer, _ = server.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := peer.recv(64):
            peer.sendall(data)

    threading.Thread(target=echo, daemon=True).start()
    client = inside(SPACES[0], lambda: socket.create_connection((ADDRESSES[1], 7777)))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    took = []
    for _ in range(200):
        begun = time.perf_counter()
        client.sendall(b"x")
        client.recv(64)
        took.append(time.perf_counter() - begun)
    client.close()
    return statistics.median(took)


def pump(source, sink):
    while data := source.recv(1 << 16):
        sink.sendall(data)


def be_rank(space, command):
    """Runs a rank in a namespace, from which its launcher on this machine's own loopback is reached too."""
    port = int(os.environ["PMIX_SERVER_URI4"].rsplit(":", 1)[1])
    server = inside(space, lambda: socket.create_server(("127.0.0.1", port)))

    def forward():
        while True:
            near, _ = server.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=forward, daemon=True).start()
    return subprocess.call(["ip", "netns", "exec", space, *command])


def updates(args, folder, policy, batch, count, ranks, over_network=False):
    """Of an offline update: its seconds, those that it waits for the other rank, and the bytes that it sums."""
    config, run = folder / "config.toml", folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    text = scaling.CONFIG.format(policy=policy, data=folder / "data", batch=batch, envs=2, updates=count, rounds=1)
    config.write_text(text[: text.index("[online")] + text[text.index("[env]") :])
    program = [args.binary, "train", str(config), "--out", str(run), "--threads", "1"]
    command = [args.mpirun, "--allow-run-as-root", "--bind-to", "core", *YIELD.split()]
    if over_network:
        each = [["-n", "1", sys.executable, __file__, "--rank", space, *program] for space in SPACES]
        command += [*OVER_TCP.split(), *each[0], ":", *each[1]]
    else:
        command += ["-n", str(ranks), *program]
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode:
        raise SystemExit(out.stderr)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    at = {line["step"]: line["wall_secs"] for line in lines if line["tag"] == "train/loss"}
    took = (at[count] - at[10]) / (count - 10)
    if ranks == 1:
        return took, 0.0, 0.0
    waited, gave = (
        statistics.median(line["value"] for line in lines if line["tag"] == tag and line["step"] > 10)
        for tag in ("time/communication", "time/communicated_bytes")
    )
    return took, waited, gave


def waits(ranks, size, latency, rate):
    """Seconds of a sum of `size` bytes by the ring, or by doubling where that is sooner (Thakur et al. 2005)."""
    steps, beta = math.ceil(math.log2(ranks)), 8 / rate
    ring = 2 * (ranks - 1) * latency + 2 * (ranks - 1) / ranks * size * beta
    return min(ring, steps * (latency + size * beta))


def model(measured):
    """The table of more ranks: how much sooner an update of 512 windows is done than by one rank."""
    print("\n| policy | ranks | " + " | ".join(f"{rate} Gb/s" for rate in (1, 10, 100)) + " |\n|---|---|---|---|---|")
    for label, alone, size in measured:
        for ranks in (8, 64, 512):
            cells = []
            for rate, latency in ((1e9, 1e-3), (1e10, 5e-5), (1e11, 5e-6)):
                waited = waits(ranks, size, latency, rate)
                cells.append(f"{alone / (alone / ranks + waited):.0f}x, waits {1e3 * waited:.2f} ms")
            print(f"| {label} | {ranks} | " + " | ".join(cells) + " |")


def main():
    if "--rank" in sys.argv:
        at = sys.argv.index("--rank")
        raise SystemExit(be_rank(sys.argv[at + 1], sys.argv[at + 2 :]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(scaling.ROOT / "target/release/eva-rl"))
    parser.add_argument("--mpirun", default=str(scaling.ROOT / ".mpi/bin/mpirun"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = ["collect", *scaling.ENV, "--policy", "scripted", "--episodes", "64", "--out", str(folder / "data")]
        scaling.launch(args, 1, words)
        policies = [
            ("3 × 64, the demo's", scaling.ROOT / "policies/pendulum", 16, 210),
            ("4 × 512, as the paper's", scaling.make(args, folder, 512, 4, 8), 16, 30),
        ]
        print("| policy, windows | ranks and link | round trip, ms | bytes an update sums | an update, ms | of which it waits, ms |")
        print("|---|---|---|---|---|---|", flush=True)
        measured = []
        links = (
            ("one", 1, None, 0.0),
            ("two, shared memory", 2, None, 0.0),
            ("two, 10 Gb/s", 2, "10gbit", 0.0),
            ("two, 1 Gb/s and 1 ms", 2, "1gbit", 1e-3),
        )
        for label, policy, batch, count in policies:
            for link, ranks, rate, delay in links:
                trip = "–"
                if rate:
                    connect(rate, delay)
                    trip = f"{1e3 * round_trip():.2f}"
                took, waited, size = updates(args, folder, policy, batch, count, ranks, rate is not None)
                cells = f"{trip} | {size:,.0f} | {1e3 * took:.1f} | {1e3 * waited:.1f}"
                print(f"| {label}, {batch} | {link} | {cells} |", flush=True)
                if ranks == 1:
                    alone = took / batch
            measured.append((label, WINDOWS * alone, size))
        # JAT's trunk is 12 × 768, with about 6.75 times the numbers of 4 × 512; adapters of rank 8 at its four maps a layer.
        jat = 4 * 12 * 8 * (2 * 768 + 2304 + 768 + 2 * (768 + 3072))
        model([*measured, ("12 × 768, as JAT's trunk (by arithmetic)", 6.75 * measured[-1][1], jat)])
        for space in SPACES:
            subprocess.run(["ip", "netns", "del", space])


if __name__ == "__main__":
    main()
