"""Puts A into a `PeftModel`, with the ranks and alphas that follow, as PEFT does."""

import warnings
from copy import copy
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer, MultiheadAttention, _ConvNd
from peft.tuners.tuners_utils import _find_minimal_target_modules
from peft.utils.constants import MIN_TARGET_MODULES_FOR_OPTIMIZATION
from peft.utils.other import _get_submodules, get_pattern_key
from torch import nn


def load(model: nn.Module, eva_state_dict: dict[str, torch.Tensor], adapter_name: str) -> None:
    """Gives every adapter its A and rank; removes those of rank 0; initialises the others as LoRA does."""
    config = model.peft_config[adapter_name]
    components = of_one_rank(model, eva_state_dict)
    kept: list[str] = []
    missing: list[str] = []
    others: list[str] = []
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    reloads_as_eva = True
    for name, module in list(model.named_modules()):
        short = name.replace("base_model.model.", "")
        if is_within_removed(model, name):
            continue
        if not isinstance(module, LoraLayer):
            others.append(short)
            continue
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), name), config.r)
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), name), config.lora_alpha)
        if name not in components:
            resize(module, adapter_name, rank, alpha, config, True)
            missing.append(short)
        elif len(components[name]) == 0:
            remove(model, name, module)
            continue
        else:
            down = components[name]
            if len(down) != rank and config.eva_config.adjust_scaling_factors:
                alpha *= len(down) / rank
            rank = len(down)
            is_convolution = isinstance(module, _ConvNd)
            reloads_as_eva &= not is_convolution
            if module.r[adapter_name] != rank or module.lora_A[adapter_name].weight.device.type == "meta":
                resize(module, adapter_name, rank, alpha, config, True if is_convolution else "eva")
            module.lora_A[adapter_name].weight.copy_(down)
            kept.append(short)
        if rank != config.r:
            ranks[short] = rank
        if alpha != config.lora_alpha:
            alphas[short] = alpha

    names = kept + missing
    if len(names) >= MIN_TARGET_MODULES_FOR_OPTIMIZATION:
        names = _find_minimal_target_modules(names, others)
    config.target_modules = names
    config.rank_pattern = ranks
    config.alpha_pattern = alphas
    if not reloads_as_eva:
        config.init_lora_weights = True  # PEFT cannot make convolutions of "eva" when it reads the adapter
    if missing:
        warnings.warn(
            "the following layers were initialized with init_lora_weights=True because they were not found in the eva "
            f"state_dict: {missing}"
        )


def resize(module: LoraLayer, adapter_name: str, rank: int, alpha: float, config: Any, init: bool | str) -> None:
    """A new adapter of this rank, B zero."""
    config = copy(config)
    config.init_lora_weights = init
    module.update_layer(adapter_name=adapter_name, r=rank, lora_alpha=alpha, config=config)


def remove(model: nn.Module, name: str, module: LoraLayer) -> None:
    """Puts the module itself where its adapter was."""
    parent, _, last = _get_submodules(model, name)
    if isinstance(module, MultiheadAttention):
        base = module.unload_and_optionally_merge_module(merge=False, safe_merge=False, adapter_names=None)
    else:
        base = module.get_base_layer()
    setattr(parent, last, base)


def is_within_removed(model: nn.Module, name: str) -> bool:
    """Whether the module was part of an attention whose adapter is gone."""
    parent, _, inner = name.rpartition(".base_layer.")
    return bool(parent) and inner.startswith("out_proj") and not isinstance(model.get_submodule(parent), LoraLayer)


def of_one_rank(model: nn.Module, eva_state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The components, where an attention's two projections have the smaller of their ranks: PEFT keeps one for both."""
    components = dict(eva_state_dict)
    for name, module in model.named_modules():
        out = f"{name}.base_layer.out_proj"
        if isinstance(module, MultiheadAttention) and name in components and out in components:
            rank = min(len(components[name]), len(components[out]))
            components[name], components[out] = components[name][:rank], components[out][:rank]
    return components
