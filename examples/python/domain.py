"""What the three domains of the study share: a pretrained model, a task's batches, and a number to compare."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Domain:
    """A pretrained model and the task that it is adapted to."""

    title: str
    #: What `evaluate` gives.
    metric: str
    higher_is_better: bool
    #: A regular expression of the modules that get adapters, and the modules that every method trains whole.
    target_modules: str
    modules_to_save: list[str]
    rank: int
    #: Learning rates that every method is tried with.
    rates: tuple[float, ...]
    #: The pretrained model, with a new head where the task needs one, which the seed draws.
    model: Callable[[int], nn.Module]
    #: The batches of a run, one an update, in the order that the seed draws; with labels, so that the model gives a loss.
    batches: Callable[[int], list[Batch]]
    #: On held-out data, which is the same for all runs.
    evaluate: Callable[[nn.Module], float]


def draw(count: int, updates: int, size: int, seed: int) -> list[torch.Tensor]:
    """The examples of every batch, of `count`: each once before any comes again."""
    generator = torch.Generator().manual_seed(seed)
    passes = -(-updates * size // count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(passes)])
    return list(order[: updates * size].split(size))


@torch.no_grad()
def accuracy(model: nn.Module, batches: list[Batch]) -> float:
    """Percent of the examples whose label has the largest logit."""
    right = sum(int((model(**batch).logits.argmax(-1) == batch["labels"]).sum()) for batch in batches)
    return 100 * right / sum(len(batch["labels"]) for batch in batches)
