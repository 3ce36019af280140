"""Check that eva-rl and Python find each other's downloads: huggingface_hub's cache, and minari's folder.

A server on the loopback address stands for the Hub; nothing else is connected to. Needs huggingface_hub, transformers
and minari[hdf5]. An example, from the repository's root:
    python tools/interop/check_hub.py --binary target/release/eva-rl
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FAILED = []

# What Python does, in a process of its own, because huggingface_hub reads its variables when it is imported.
FIND = """
from huggingface_hub import snapshot_download
from transformers import DecisionTransformerModel
print(snapshot_download("me/pendulum", local_files_only=True, allow_patterns=["config.json", "model.safetensors"]))
DecisionTransformerModel.from_pretrained("me/pendulum", local_files_only=True)
"""
DOWNLOAD = """
from huggingface_hub import hf_hub_download
for name in ("config.json", "model.safetensors"):
    hf_hub_download("me/pendulum", name)
"""
LOAD = """
import minari
print(minari.load_dataset("pendulum/heavy-v0").total_episodes, sorted(minari.list_local_datasets()))
"""


def check(name, holds, found=""):
    print(f"{'ok' if holds else 'FAILED':6} {name} {found}")
    if not holds:
        FAILED.append(name)


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as downloads need: `repos` has each repository's files."""

    repos = {}
    protocol_version = "HTTP/1.1"

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        if len(parts) < 4:
            return self.answer(404, b"{}")
        if parts[0] == "api":
            kind, owner, name, *rest = parts[1:]
            files = self.repos.get(f"{kind}/{owner}/{name}")
            if files is None:
                return self.answer(404, b"{}", [("X-Error-Code", "RepoNotFound")])
            if rest[:1] == ["tree"]:
                rows = [
                    {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)} for path, data in files.items()
                ]
                return self.answer(200, json.dumps(rows).encode())
            siblings = [{"rfilename": path} for path in files]
            found = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings, "private": False}
            return self.answer(200, json.dumps(found).encode())
        kind = parts.pop(0) if parts[0] == "datasets" else "models"
        owner, name, _, _, *file = parts
        data = self.repos.get(f"{kind}/{owner}/{name}", {}).get("/".join(file))
        if data is None:
            return self.answer(404, b"", [("X-Error-Code", "EntryNotFound"), ("X-Repo-Commit", COMMIT)])
        large = file[-1].endswith((".safetensors", ".hdf5"))
        etag = hashlib.sha256(data).hexdigest() if large else git_hash(data)
        self.answer(200, data, [("ETag", f'"{etag}"'), ("X-Repo-Commit", COMMIT)])

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def git_hash(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def files_of(folder, prefix=""):
    return {prefix + path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/eva-rl")
    binary = str(Path(parser.parse_args().binary).resolve())
    root = Path(__file__).resolve().parents[2]
    Hub.repos["models/me/pendulum"] = files_of(root / "policies/pendulum")
    Hub.repos["datasets/farama-minari/pendulum"] = {
        "namespace_metadata.json": b"{}",
        **files_of(root / "tests/golden/minari/pendulum/heavy-v0/data", "heavy-v0/data/"),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"

    def run(command, home, **variables):
        known = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MINARI_"))}
        known |= {"HF_HOME": str(home), "MINARI_DATASETS_PATH": str(home / "minari"), "HF_ENDPOINT": address}
        ran = subprocess.run(command, env=known | variables, capture_output=True, text=True)
        last = (ran.stderr.strip().splitlines() or [""])[-1]
        return ran.returncode == 0, (ran.stdout.strip().splitlines() or [""])[-1] if ran.returncode == 0 else last

    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        python = [sys.executable, "-W", "ignore", "-c"]
        holds, found = run([binary, "inspect", "hf:me/pendulum"], ours)
        check("eva-rl downloads a policy", holds, found if not holds else "")
        holds, found = run([*python, FIND], ours, HF_HUB_OFFLINE="1")
        check("huggingface_hub and transformers find it", holds, found if not holds else "")
        holds, found = run([*python, DOWNLOAD], theirs)
        check("huggingface_hub downloads the same", holds, found if not holds else "")
        holds, found = run([binary, "inspect", "hf:me/pendulum"], theirs, HF_HUB_OFFLINE="1")
        check("eva-rl finds it", holds, found if not holds else "")
        layouts = []
        for home in (ours, theirs):
            base = home / "hub/models--me--pendulum"
            links = sorted(path for path in base.glob("snapshots/*/*"))
            layouts.append({str(path.relative_to(base)): os.readlink(path) for path in links})
        check("both caches have the same links", layouts[0] == layouts[1] and len(layouts[0]) == 2, layouts)
        holds, found = run([binary, "inspect", "minari:pendulum/heavy-v0"], ours)
        check("eva-rl downloads a dataset", holds, found if not holds else "")
        holds, found = run([*python, LOAD], ours)
        check("minari loads and lists it", holds and found.endswith("['pendulum/heavy-v0']"), found)
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
