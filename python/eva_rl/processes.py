"""Processes of `torch.distributed` that share one search: sums travel between them, activations never do."""

from typing import Any

import torch
import torch.distributed as dist


def are_many(gather_distributed_inputs: bool) -> bool:
    """Whether this process is one of several that share the search."""
    return gather_distributed_inputs and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def speaks() -> bool:
    """Whether this process prints for all."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def _device() -> torch.device:
    """Where the group's tensors must lie."""
    on_cuda = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_cuda else torch.device("cpu")


def all_reduce(sums: torch.Tensor) -> None:
    """Every number becomes the sum over all processes, the same bits on each."""
    there = sums.to(_device())
    dist.all_reduce(there)
    if there is not sums:
        sums.copy_(there)


def largest(number: int) -> int:
    """The largest that any process has."""
    there = torch.tensor([number], device=_device())
    dist.all_reduce(there, op=dist.ReduceOp.MAX)
    return int(there)


def from_first(thing: Any) -> Any:
    """What the first process has."""
    things = [thing]
    dist.broadcast_object_list(things, src=0, device=_device())
    return things[0]
