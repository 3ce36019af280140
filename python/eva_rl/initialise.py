"""PEFT's two functions of EVA: A of every module from its input, and the model initialised with it."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from copy import copy
from typing import Any

import peft
import torch
from torch import nn

from eva_rl import processes
from eva_rl.loading import load
from eva_rl.rows import (
    PrepareLayerInputs,
    forward_fn_dict,
    prepare_layer_inputs_fn_language_modeling,
    prepare_model_inputs_fn_language_modeling,
)
from eva_rl.search import Options, search
from eva_rl.table import EvaStateDict, RankTable
from eva_rl.targets import targets_of

SOLVERS = ("auto", "gram", "sketch", "incremental")

#: Places of every image whose patches a convolution counts.
PATCHES = 64


@torch.no_grad()
def get_eva_state_dict(
    model: nn.Module,
    dataloader: Iterable[Any],
    peft_config: Any | None = None,
    forward_fn: Callable[[nn.Module, Any], Any] | None = forward_fn_dict,
    prepare_model_inputs_fn: Callable[[Any, Any], Any] | None = prepare_model_inputs_fn_language_modeling,
    prepare_layer_inputs_fn: PrepareLayerInputs
    | Mapping[str, PrepareLayerInputs]
    | None = prepare_layer_inputs_fn_language_modeling,
    adapter_name: str = "default",
    gather_distributed_inputs: bool = True,
    show_progress_bar: bool = True,
    *,
    energy: float | None = None,
    max_batches: int | None = None,
    solver: str = "auto",
    patches: int = PATCHES,
) -> EvaStateDict:
    """A of every module that the adapters or the config name, by its name: `[rank, in]`, and empty where it gets none.

    Arguments as of PEFT's function of this name; the model is a `PeftModel`, or any module with a `peft_config`.

    model: its forward passes are run in evaluation mode, with its adapters off.
    dataloader: batches of the task's data, each seen once at most.
    peft_config: a `LoraConfig` with an `eva_config`; the adapter's own where the model has one.
    forward_fn: calls the model with a batch.
    prepare_model_inputs_fn, prepare_layer_inputs_fn: which rows of each module's input count. As they are, those of the
        tokens that `attention_mask`, `decoder_attention_mask` and `labels` count, or all where there are none. Other
        functions are called as PEFT calls them; `None` for both counts every row.
    adapter_name: the adapter whose config is used.
    gather_distributed_inputs: under torch.distributed, whether the processes have batches of their own, and share what
        they find.
    show_progress_bar: whether to show one.
    energy: in place of a budget of ranks, each module gets the fewest components that explain this share of its variance,
        `round(rho * r)` at most.
    max_batches: stop after this many with a warning, converged or not.
    solver: "gram" (exact), "sketch", "incremental" (PEFT's own algorithm and rule), or "auto", the first or the second
        by a module's width.
    patches: places drawn in every image whose patches a convolution counts; all where there are no more.
    """
    is_peft_model = hasattr(model, "peft_config")
    if is_peft_model and peft_config is None:
        peft_config = model.peft_config[adapter_name]
    elif peft_config is None:
        raise ValueError("peft_config is required if model is not a PeftModel")
    check_options(energy, max_batches, solver, patches)
    targets, refused = targets_of(model, peft_config)
    if refused:
        warnings.warn(
            "EVA initialises what multiplies an input by one matrix, which embeddings, grouped convolutions and attention "
            f"of several widths do not; left as they are: {refused}"
        )
    options = Options(
        forward_fn or forward_fn_dict,
        prepare_model_inputs_fn,
        prepare_layer_inputs_fn,
        gather_distributed_inputs,
        show_progress_bar,
        energy,
        max_batches,
        solver,
        patches,
    )
    with model.disable_adapter() if is_peft_model else nullcontext():
        return search(model, dataloader, peft_config, targets, options)


def check_options(energy: float | None, max_batches: int | None, solver: str, patches: int) -> None:
    """Refuses values that a search cannot have."""
    if energy is not None and not 0 < energy <= 1:
        raise ValueError(f"energy is {energy}, expected more than 0 and at most 1")
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches is {max_batches}, expected at least 1")
    if solver not in SOLVERS:
        raise ValueError(f"solver is {solver!r}, expected one of {', '.join(SOLVERS)}")
    if patches < 1:
        raise ValueError(f"patches is {patches}, expected at least 1")


@torch.no_grad()
def initialize_lora_eva_weights(
    model: nn.Module,
    dataloader: Iterable[Any] | None = None,
    eva_state_dict: dict[str, torch.Tensor] | None = None,
    forward_fn: Callable[[nn.Module, Any], Any] | None = forward_fn_dict,
    prepare_model_inputs_fn: Callable[[Any, Any], Any] | None = prepare_model_inputs_fn_language_modeling,
    prepare_layer_inputs_fn: PrepareLayerInputs
    | Mapping[str, PrepareLayerInputs]
    | None = prepare_layer_inputs_fn_language_modeling,
    adapter_name: str = "default",
    gather_distributed_inputs: bool = True,
    show_progress_bar: bool = True,
    *,
    energy: float | None = None,
    max_batches: int | None = None,
    solver: str = "auto",
    patches: int = PATCHES,
) -> RankTable | None:
    """Initialises the adapters of a `PeftModel` by EVA: ranks, alphas, A and zero B.

    Arguments as of PEFT's function of this name, and of [`get_eva_state_dict`], which is called where no
    `eva_state_dict` is given. Returns the table of ranks that it found, which is also printed with the progress bar.
    """
    if not hasattr(model, "peft_config"):
        raise ValueError("model must be a PeftModel")
    if len(model.active_adapters) > 1:
        raise ValueError("`initialize_lora_eva_weights` currently only works with a single active adapter")
    if model.peft_config[adapter_name].init_lora_weights != "eva":
        raise ValueError("`initialize_lora_eva_weights` can only be used with `init_lora_weights='eva'`")
    found = eva_state_dict
    if found is None:
        if dataloader is None:
            raise ValueError("dataloader is required if eva_state_dict is not provided")
        found = get_eva_state_dict(
            model,
            dataloader,
            forward_fn=forward_fn,
            prepare_model_inputs_fn=prepare_model_inputs_fn,
            prepare_layer_inputs_fn=prepare_layer_inputs_fn,
            adapter_name=adapter_name,
            gather_distributed_inputs=gather_distributed_inputs,
            show_progress_bar=show_progress_bar,
            energy=energy,
            max_batches=max_batches,
            solver=solver,
            patches=patches,
        )
        if show_progress_bar and processes.speaks():
            print(found.table)
    load(model, found, adapter_name)
    return getattr(found, "table", None)


def get_peft_model(model: nn.Module, peft_config: Any, adapter_name: str = "default", **more: Any) -> nn.Module:
    """PEFT's function of this name, for targets among which are convolutions: with `init_lora_weights="eva"` PEFT itself
    cannot make their adapters."""
    plain = copy(peft_config)
    plain.init_lora_weights = True
    model = peft.get_peft_model(model, plain, adapter_name=adapter_name, **more)
    model.peft_config[adapter_name].init_lora_weights = peft_config.init_lora_weights
    return model
