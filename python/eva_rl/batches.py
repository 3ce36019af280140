"""The batches of a search, and where the model wants them."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from eva_rl import processes

#: With PEFT's rule nothing else ends a search whose components keep turning.
MOST_BATCHES = 1000


class Batches:
    """What each step of the search forwards: a batch, or nothing where another process still has some."""

    def __init__(self, dataloader: Iterable[Any], shared: bool, repeats: bool):
        self._dataloader, self._shared, self._repeats = dataloader, shared, repeats
        self.are_exhausted = False
        length = len(dataloader) if shared or hasattr(dataloader, "__len__") else None
        if length == 0:
            raise ValueError("dataloader is empty")
        # The first process's first batch is everybody's, because it decides what is summed.
        self.per_pass = processes.largest(length + (dist.get_rank() > 0)) if shared else length
        self.most = max(MOST_BATCHES, 10 * (length or 0)) if repeats else None

    def __iter__(self) -> Iterator[Any]:
        own = iter(self._dataloader)
        if self._shared:
            is_first = dist.get_rank() == 0
            yield processes.from_first(next(own) if is_first else None)
            for _ in range(1, self.per_pass):
                yield next(own, None)
        else:
            yield from own
            while self._repeats:
                yield from self._dataloader
        self.are_exhausted = True


def device_of(model: nn.Module) -> torch.device | None:
    """Where the model's parameters are; nothing, and a warning, where they are in several places."""
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type != "meta"}
    if len(devices) > 1:
        warnings.warn(f"Could not determine device, model has multiple devices: {sorted(map(str, devices))}")
        return None
    return next(iter(devices), None)


def move(inputs: Any, device: torch.device | None) -> Any:
    """The model's inputs on its device."""
    if device is None:
        return inputs
    if hasattr(inputs, "to"):
        return inputs.to(device)
    if isinstance(inputs, Mapping):
        return type(inputs)({key: move(value, device) for key, value in inputs.items()})
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(move(value, device) for value in inputs)
    return inputs
