"""The search: forward passes over batches until what the modules are given is known well enough."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from eva_rl import processes
from eva_rl._native import Search
from eva_rl.batches import Batches, device_of, move
from eva_rl.observer import ForwardEnded, Observer
from eva_rl.rows import (
    PrepareLayerInputs,
    Tokens,
    language_masks,
    prepare_layer_inputs_fn_language_modeling,
    prepare_model_inputs_fn_language_modeling,
)
from eva_rl.table import EvaStateDict, ModuleRank, RankTable
from eva_rl.targets import Target, functions_of


@dataclass(frozen=True)
class Options:
    """What a caller asks for."""

    forward_fn: Callable[[nn.Module, Any], Any]
    prepare_model_inputs_fn: Callable[[Any, Any], Any] | None
    prepare_layer_inputs_fn: PrepareLayerInputs | Mapping[str, PrepareLayerInputs] | None
    gather_distributed_inputs: bool
    show_progress_bar: bool
    energy: float | None
    max_batches: int | None
    solver: str
    patches: int

    @property
    def counts_tokens(self) -> bool:
        """Whether the rows that count are those of real tokens, which no function of the caller's says."""
        return (
            self.prepare_model_inputs_fn is prepare_model_inputs_fn_language_modeling
            and self.prepare_layer_inputs_fn is prepare_layer_inputs_fn_language_modeling
        )


def search(
    model: nn.Module, dataloader: Iterable[Any], peft_config: Any, targets: list[Target], options: Options
) -> EvaStateDict:
    """A of every target, from as many batches as they need."""
    functions = functions_of(targets, options.prepare_layer_inputs_fn)
    if not targets:
        return EvaStateDict({}, RankTable((), 0, True))
    device = device_of(model)
    is_shared = processes.are_many(options.gather_distributed_inputs)
    batches = Batches(dataloader, is_shared, repeats=options.solver == "incremental")
    native = Search(
        [(target.name, target.rank) for target in targets],
        rho=peft_config.eva_config.rho,
        tau=tau_of(peft_config.eva_config.tau, options.solver),
        whiten=peft_config.eva_config.whiten,
        solver_name=options.solver,
        energy=options.energy,
        batches_per_pass=batches.per_pass,
        device=(device.type, device.index or 0) if device is not None else ("cpu", 0),
        all_reduce=(dist.get_rank(), dist.get_world_size(), processes.all_reduce) if is_shared else None,
    )
    observer = Observer(native, targets, functions, options.patches, options.counts_tokens)
    seen, done = 0, False
    shows = options.show_progress_bar and processes.speaks()
    with hooked(model, observer), tqdm(disable=not shows, leave=False, unit=" batches") as bar:
        for inputs in batches:
            if inputs is not None:
                observe(model, move(inputs, device), peft_config, observer, options)
            if seen == 0:
                observer.learn_order(model)
                if is_shared or not observer.has_seen_any:
                    observer.check_all_are_seen("the first batch")
            seen, converged, done = native.end_batch()
            bar.update()
            bar.set_description(f"{round(converged * len(targets))}/{len(targets)} layers have converged")
            if done or seen == (options.max_batches or batches.most):
                break
    observer.check_all_are_seen(f"{seen} batches")
    done = done or batches.are_exhausted
    if not done and options.max_batches is None:
        raise RuntimeError(
            f"the components have not converged after {seen} batches, expected that they do: lower tau, or leave out "
            'solver="incremental"'
        )
    if not done:
        warnings.warn(f"EVA stopped after {seen} batches, as max_batches says, before its components had converged")
    return gather(native, observer, seen, done, device)


@contextmanager
def hooked(model: nn.Module, observer: Observer) -> Iterator[None]:
    """The model in evaluation mode with the observer's hooks; afterwards as it was."""
    training = [module for module in model.modules() if module.training]
    handles = [
        target.module.register_forward_pre_hook(observer.hook(index), with_kwargs=True)
        for index, target in enumerate(observer.targets)
    ]
    model.eval()
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True


def observe(model: nn.Module, inputs: Any, peft_config: Any, observer: Observer, options: Options) -> None:
    """One forward pass, up to the last module that has to be seen."""
    tokens, prepared = Tokens([]), None
    if options.counts_tokens:
        tokens = Tokens(language_masks(inputs, peft_config) if isinstance(inputs, Mapping) else [])
    elif options.prepare_model_inputs_fn is not None:
        prepared = options.prepare_model_inputs_fn(inputs, peft_config)
    elif options.prepare_layer_inputs_fn is not None:
        prepared = deepcopy(inputs)  # the forward may change them
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    observer.begin(tokens, prepared)
    try:
        options.forward_fn(inner, inputs)
    except ForwardEnded:
        pass
    finally:
        observer.end()


def tau_of(tau: float, solver: str) -> float:
    """The root mean square cosine to the components of all the data at which the search ends.

    PEFT's rule, which `incremental` has, compares each batch's components with the last's, and says little of how far
    off both are; a tenth of its squared sine ends about as close as PEFT does.
    """
    return tau if solver == "incremental" else (1 - (1 - tau) / 10) ** 0.5


def gather(native: Search, observer: Observer, seen: int, done: bool, device: torch.device | None) -> EvaStateDict:
    """The state dict, with an empty A for modules that get no adapter."""
    components, table = {}, []
    for found in native.finish():
        target = observer.targets[found.index]
        down = found.components if found.components is not None else torch.zeros(0, observer.width(found.index))
        components[target.name] = target.shaped(down if device is None else down.to(device))
        table.append(ModuleRank(target.name, found.rank, target.rank, tuple(found.explained), found.cosine))
    return EvaStateDict(components, RankTable(tuple(table), seen, done))
