"""Which modules of a model EVA can initialise, and the rows that each multiplies by its weight."""

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from peft.tuners.lora.layer import Embedding, LoraLayer, ParamWrapper, _ConvNd
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from torch import nn
from transformers.pytorch_utils import Conv1D

from eva_rl.rows import PrepareLayerInputs, Tokens, tensor_of

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

#: What a module's hook gives: the tensors that it is called with.
Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Target:
    """A matrix that gets an adapter, and the module that is called with its input."""

    #: As in the state dict.
    name: str
    module: nn.Module
    rank: int
    kind: str  # "linear", "convolution", "attention_in" or "attention_out"

    def input(self, call: Call) -> torch.Tensor:
        """The tensor by which modules of the same input are known."""
        args, kwargs = call
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
        return tensor_of(tensors, self.name)

    def rows(self, call: Call, tokens: Tokens, patches: int, generator: torch.Generator) -> torch.Tensor:
        """What the matrix multiplies in one call, as rows `[N, width]` that count."""
        match self.kind:
            case "linear":
                return tokens.rows(self.input(call), self.name)
            case "convolution":
                return patch_rows(self.input(call), self.base, patches, generator)
            case "attention_in":
                distinct = {id(x): x for x in attention_inputs(self.base, call)}.values()
                return torch.cat([tokens.rows(x, self.name) for x in distinct])
            case "attention_out":
                return tokens.rows(mixed_values(self.base, call), self.name)
        raise AssertionError(self.kind)

    @property
    def base(self) -> nn.Module:
        """The module without its adapter."""
        return self.module.get_base_layer() if isinstance(self.module, LoraLayer) else self.module

    @property
    def geometry(self) -> tuple[Any, ...]:
        """What modules of one input must have in common to be given the same rows."""
        base = self.base
        if self.kind == "convolution":
            return (self.kind, base.kernel_size, base.stride, base.padding, base.dilation, base.padding_mode)
        return (self.kind, id(base) if self.kind == "attention_out" else None)

    def shaped(self, components: torch.Tensor) -> torch.Tensor:
        """A `[R, width]` as the adapter has it: a convolution's is a kernel."""
        if self.kind != "convolution":
            return components
        return components.reshape(len(components), self.base.in_channels, *self.base.kernel_size)


def attention_arguments(attention: nn.MultiheadAttention, call: Call) -> dict[str, Any]:
    """The arguments of a call by name."""
    args, kwargs = call
    return signature(attention.forward).bind(*args, **kwargs).arguments


def attention_inputs(attention: nn.MultiheadAttention, call: Call) -> list[torch.Tensor]:
    """Query, key and value of a call."""
    arguments = attention_arguments(attention, call)
    return [arguments[name] for name in ("query", "key", "value")]


def mixed_values(attention: nn.MultiheadAttention, call: Call) -> torch.Tensor:
    """What the output projection multiplies, `[…, width]`: the output of the same attention whose projection is the
    identity, because the module never calls its own."""
    weight = attention.in_proj_weight
    identity = nn.Linear(attention.embed_dim, attention.embed_dim, device="meta")
    identity.weight = nn.Parameter(torch.eye(attention.embed_dim, dtype=weight.dtype, device=weight.device))
    identity.bias = nn.Parameter(weight.new_zeros(attention.embed_dim))
    bare = copy(attention)
    bare._modules = {**attention._modules, "out_proj": identity}
    output, _ = bare.forward(**{**attention_arguments(attention, call), "need_weights": False})
    return output


def patch_rows(x: torch.Tensor, convolution: nn.Module, count: int, generator: torch.Generator) -> torch.Tensor:
    """Patches of images `[N, C, …]` that a convolution's kernel meets, at `count` places drawn for each, or at all where
    there are no more: `[N · count, C · kernel]`, their numbers in the kernel's order."""
    dimensions = len(convolution.kernel_size)
    if x.ndim == dimensions + 1:
        x = x.unsqueeze(0)  # one image
    mode = "constant" if convolution.padding_mode == "zeros" else convolution.padding_mode
    x = nn.functional.pad(x, convolution._reversed_padding_repeated_twice, mode=mode)
    for dimension in range(dimensions):
        kernel, dilation = convolution.kernel_size[dimension], convolution.dilation[dimension]
        x = x.unfold(dimension + 2, dilation * (kernel - 1) + 1, convolution.stride[dimension])[..., ::dilation]
    images, _, *places = x.shape[: dimensions + 2]
    x = x.movedim(1, dimensions + 1)  # [N, …places, C, …kernel]
    all_places = torch.Size(places).numel()
    if count >= all_places:
        return x.reshape(images * all_places, -1)
    drawn = torch.rand(images, all_places, generator=generator).argsort(1)[:, :count].flatten()  # [N · count]
    index = [torch.arange(images).repeat_interleave(count)]
    for size in reversed(places):
        index.insert(1, drawn % size)
        drawn = drawn // size
    return x[tuple(one.to(x.device) for one in index)].flatten(1)


def targets_of(model: nn.Module, peft_config: Any) -> tuple[list[Target], list[str]]:
    """The modules that get adapters, in the model's order, and the names of those that EVA cannot initialise."""
    targets: list[Target] = []
    refused: list[str] = []
    attentions: set[str] = set()
    for name, module, base in candidates(model, peft_config):
        rank = peft_config.rank_pattern.get(get_pattern_key(peft_config.rank_pattern.keys(), name), peft_config.r)
        parent, _, last = name.rpartition(".")
        if last == "out_proj" and parent.removesuffix(".base_layer") in attentions:
            continue  # the attention's own entry has it, whose forward never calls it
        if isinstance(base, nn.MultiheadAttention):
            if not base._qkv_same_embed_dim:
                refused.append(name)
                continue
            attentions.add(name)
            out = f"{name}.base_layer.out_proj" if isinstance(module, LoraLayer) else f"{name}.out_proj"
            targets += [Target(name, module, rank, "attention_in"), Target(out, module, rank, "attention_out")]
        elif isinstance(base, CONVOLUTIONS) and base.groups == 1:
            targets.append(Target(name, module, rank, "convolution"))
        elif isinstance(base, (nn.Embedding, *CONVOLUTIONS)) or isinstance(module, (Embedding, _ConvNd, ParamWrapper)):
            refused.append(name)
        else:
            targets.append(Target(name, module, rank, "linear"))
    return targets, refused


def candidates(model: nn.Module, peft_config: Any) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """Name, module and base module of what the config or the adapters name."""
    if hasattr(model, "peft_config"):
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer):
                yield name, module, module.get_base_layer()
        return
    named = peft_config.target_modules is not None
    linear = (nn.Linear, Conv1D)
    kinds = (*linear, *CONVOLUTIONS, nn.MultiheadAttention, nn.Embedding) if named else linear
    for name, module in model.named_modules():
        if isinstance(module, kinds) and (not named or check_target_module_exists(peft_config, name)):
            yield name, module, module


def functions_of(
    targets: list[Target], prepare: PrepareLayerInputs | Mapping[str, PrepareLayerInputs] | None
) -> list[PrepareLayerInputs | None]:
    """The caller's function for every target, none where the input is flattened."""
    if not isinstance(prepare, Mapping):
        return [prepare] * len(targets)
    unknown = prepare.keys() - {target.name for target in targets}
    if unknown:
        raise ValueError(
            "prepare_layer_inputs_fn is a mapping but the following module names were not found in the model: "
            f"{sorted(unknown)}"
        )
    return [prepare.get(target.name) for target in targets]
