"""Make the hostile weight files under agents/tests/golden/hostile: what a policy's reader must refuse in one sentence.

Needs torch 2.11.0. Run from the repository's root:
    python tools/golden/hostile_files.py
"""

import io
import json
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2] / "agents" / "tests" / "golden" / "hostile"


def archive(name, data_pkl, storages=(), compression=zipfile.ZIP_STORED, order="little"):
    with zipfile.ZipFile(ROOT / name, "w", compression) as file:
        file.writestr("archive/data.pkl", data_pkl)
        file.writestr("archive/byteorder", order)
        for key, data in storages:
            file.writestr(f"archive/data/{key}", data)


def text(string):
    return b"X" + struct.pack("<I", len(string)) + string.encode()


def storage(length, key="0", kind="FloatStorage"):
    inside = text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + integer(length)
    return b"(" + inside + b"tQ"


def integer(number):
    return b"\x8a\x08" + struct.pack("<q", number)


def tensor(length, offset, shape, strides, key="0"):
    """A `_rebuild_tensor_v2` call with whatever numbers it is given."""
    sizes = b"(" + b"".join(integer(size) for size in shape) + b"t"
    steps = b"(" + b"".join(integer(stride) for stride in strides) + b"t"
    arguments = storage(length, key) + integer(offset) + sizes + steps + b"\x89)"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def state(*items):
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in items) + b"u."


class Runs:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/eva-rl-was-here",)


class Evaluates:
    def __reduce__(self):
        return eval, ("__import__('os').abort()",)


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    four = struct.pack("<4f", 1, 2, 3, 4)
    archive("runs-a-command.bin", pickle.dumps({"w": Runs()}, protocol=2))
    archive("evaluates.bin", pickle.dumps({"w": Evaluates()}, protocol=4))
    archive("imports.bin", b"\x80\x02cos\nsystem\n.")
    archive("instance.bin", b"\x80\x02(ios\nsystem\n.")
    archive("builds.bin", b"\x80\x02ccollections\nOrderedDict\n)\x81}b.")
    archive("outside.bin", state(("w", tensor(4, 2, [3], [1]))), [("0", four)])
    archive("far-stride.bin", state(("w", tensor(4, 0, [2], [1 << 62]))), [("0", four)])
    archive("overflow.bin", state(("w", tensor(4, 0, [1 << 40, 1 << 40], [0, 0]))), [("0", four)])
    archive("expanded.bin", state(("w", tensor(4, 0, [1 << 40], [0]))), [("0", four)])
    archive("negative-size.bin", state(("w", tensor(4, 0, [-1], [1]))), [("0", four)])
    archive("negative-offset.bin", state(("w", tensor(4, -4, [2], [1]))), [("0", four)])
    archive("huge-storage.bin", state(("w", tensor(1 << 47, 0, [4], [1]))), [("0", four)])
    archive("short-storage.bin", state(("w", tensor(4, 0, [4], [1]))), [("0", four[:8])])
    archive("no-storage.bin", state(("w", tensor(4, 0, [4], [1]))))
    archive("climbing-key.bin", state(("w", tensor(4, 0, [4], [1], key="../../data.pkl"))), [("0", four)])
    archive("compressed.bin", state(("w", tensor(4, 0, [4], [1]))), [("0", four)], zipfile.ZIP_DEFLATED)
    archive("big-endian.bin", state(("w", tensor(4, 0, [4], [1]))), [("0", four)], order="big")
    archive("many-axes.bin", state(("w", tensor(4, 0, [1] * 5000, [1] * 5000))), [("0", four)])
    archive("deep.bin", b"\x80\x02)" + b"\x85" * 50_000 + b".")
    archive("twice.bin", state(("w", tensor(4, 0, [4], [1])), ("w", tensor(4, 0, [4], [1]))), [("0", four)])
    archive("wide-integer.bin", b"\x80\x02\x8a\xff" + b"\x01" * 255 + b".")
    archive("long-text.bin", b"\x80\x02X\xff\xff\xff\xffabc.")
    archive("no-tensor.bin", state(("w", integer(4))))
    archive("empty-pickle.bin", b"")
    archive("underflow.bin", b"\x80\x02tR.")
    archive("recalls-nothing.bin", b"\x80\x02h\x07.")
    with zipfile.ZipFile(ROOT / "no-pickle.bin", "w") as file:
        file.writestr("archive/version", "3")
    torch.save({"w": torch.ones(4)}, ROOT / "old-torch.bin", _use_new_zipfile_serialization=False)
    (ROOT / "text.bin").write_text("not a zip archive\n")
    (ROOT / "empty.bin").write_bytes(b"")
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(64.0)}, buffer)
    (ROOT / "torn.bin").write_bytes(buffer.getvalue()[:600])
    module = torch.jit.script(torch.nn.Linear(2, 2))
    torch.jit.save(module, ROOT / "script.bin")

    def safetensors(name, header, data=b""):
        header = header if isinstance(header, bytes) else json.dumps(header).encode()
        (ROOT / name).write_bytes(struct.pack("<Q", len(header)) + header + data)

    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    safetensors("torn.safetensors", {"w": entry}, four[:9])
    safetensors("huge.safetensors", {"w": {**entry, "shape": [1 << 62, 8]}}, four)
    safetensors("beyond.safetensors", {"w": {**entry, "data_offsets": [16, 32]}}, four)
    safetensors("no-json.safetensors", b"{" * 400)
    safetensors("deep-json.safetensors", b"[" * 50_000)
    safetensors("float8.safetensors", {"w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, four[:4])
    (ROOT / "long-header.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    (ROOT / "short.safetensors").write_bytes(b"\x08\x00")


if __name__ == "__main__":
    main()
