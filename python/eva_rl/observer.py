"""Hooks that see what each module is given, and which modules are given the same."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from eva_rl._native import Search
from eva_rl.rows import PrepareLayerInputs, Tokens
from eva_rl.targets import Call, Target

#: Patches of an image are drawn by this seed.
SEED = 0


class ForwardEnded(BaseException):
    """Every module was shown; no `except Exception` of the model's may stop it."""


@dataclass(frozen=True)
class Shown:
    """An input that a module was given in this pass, and which this does not keep alive."""

    leader: int
    storage: StorageWeakRef
    key: tuple[Any, ...]
    #: The rows that a caller's function made of it.
    prepared: torch.Tensor | None


class Observer:
    """Passes on what the modules are given in forward passes, once for modules that are given the same.

    Two modules are given the same where the tensors are one place in memory that nobody has written to in between, while
    the first is alive; a caller's function must also make the same rows of it for both.
    """

    def __init__(
        self,
        search: Search,
        targets: list[Target],
        functions: list[PrepareLayerInputs | None],
        patches: int,
        counts_tokens: bool,
    ):
        self.targets = targets
        self._search = search
        self._functions: list[PrepareLayerInputs | None] = [None] * len(targets) if counts_tokens else functions
        self._patches = patches
        self._generator = torch.Generator().manual_seed(SEED)
        #: Of every target that was called, the one whose rows stand for its own; and the widths of those.
        self._leaders: dict[int, int] = {}
        self._widths: dict[int, int] = {}
        #: The target after which a pass may end.
        self._last: int | None = None
        self.end()

    def begin(self, tokens: Tokens, model_inputs: Any) -> None:
        """A pass follows, whose inputs are these."""
        self._tokens, self._model_inputs = tokens, model_inputs
        self._calls: dict[int, int] = {}

    def end(self) -> None:
        """Keeps nothing of the pass but which targets were called how often."""
        self._tokens, self._model_inputs = Tokens([]), None
        self._shown: list[Shown] = []

    @property
    def has_seen_any(self) -> bool:
        return bool(self._leaders)

    def width(self, index: int) -> int:
        """Of a target's input."""
        return self._widths[self._leaders[index]]

    def check_all_are_seen(self, batches: str) -> None:
        """Names a target that was not called."""
        for index, target in enumerate(self.targets):
            if index not in self._leaders:
                raise ValueError(
                    f"{target.name} was not called in {batches}, expected a call of every module that gets an adapter"
                )

    def learn_order(self, model: nn.Module) -> None:
        """After the first pass: later ones may end early where each target was called once."""
        if len(self._calls) < len(self.targets) or set(self._calls.values()) != {1}:
            return
        # Their hooks on the ends of modules move weights, and must run.
        if any(hasattr(module, "_hf_hook") or hasattr(module, "_fsdp_wrapped_module") for module in model.modules()):
            return
        self._last = [index for index in self._calls if self._leaders[index] == index][-1]

    def hook(self, index: int) -> Callable[..., None]:
        """Sees a target's input before it does."""

        def see(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._see(index, (args, kwargs))
            if index == self._last:
                raise ForwardEnded

        return see

    def _see(self, index: int, call: Call) -> None:
        self._calls[index] = self._calls.get(index, 0) + 1
        rows = None
        if index not in self._leaders:
            rows = self._introduce(index, call)
        if self._leaders[index] == index:
            self._search.record(index, self._rows(index, call) if rows is None else rows)

    def _introduce(self, index: int, call: Call) -> torch.Tensor | None:
        """Learns at a target's first call whose input it shares; its rows where they are at hand."""
        target, x = self.targets[index], self.targets[index].input(call)
        key = (*target.geometry, *identity(x))
        prepared = None if self._functions[index] is None else self._rows(index, call)
        self._shown = [shown for shown in self._shown if not shown.storage.expired()]
        for shown in self._shown:
            if shown.key == key and are_equal(shown.prepared, prepared):
                self._leaders[index] = shown.leader
                self._search.join_input(shown.leader, index)
                return prepared
        self._leaders[index] = index
        self._shown.append(Shown(index, StorageWeakRef(x.untyped_storage()), key, prepared))
        rows = self._rows(index, call) if prepared is None else prepared
        self._widths[index] = rows.shape[1]
        self._search.add_input(index, rows.shape[1], target.kind == "convolution")
        return rows

    def _rows(self, index: int, call: Call) -> torch.Tensor:
        """What counts of a target's input: `[N, width]`."""
        target, function = self.targets[index], self._functions[index]
        if function is None:
            rows = target.rows(call, self._tokens, self._patches, self._generator)
        else:
            args, kwargs = call
            rows = function(args or tuple(kwargs.values()), self._model_inputs, target.name)
        if rows.ndim != 2:
            raise ValueError(f"the rows of {target.name} have shape {list(rows.shape)}, expected [rows, width]")
        return rows.detach()


def identity(x: torch.Tensor) -> tuple[Any, ...]:
    """By which tensors that are alive hold the same numbers: their place in memory, and how often it was written to."""
    version = 0 if x.is_inference() else x._version
    layout = (x.numel(), x.shape[-1]) if x.is_contiguous() else (x.shape, x.stride())
    return (x.untyped_storage()._cdata, x.storage_offset(), x.dtype, version, *layout)


def are_equal(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    """Whether both hold the same numbers, or neither is there."""
    if first is None or second is None:
        return first is second
    return torch.equal(first, second)
