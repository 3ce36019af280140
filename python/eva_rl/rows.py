"""Which rows of a module's input count: those of real tokens, as masks and labels say."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

#: What a caller's function makes of a module's input: it takes the input, what `prepare_model_inputs_fn` gave, and
#: the module's name, and returns rows `[N, width]`.
PrepareLayerInputs = Callable[[Any, Any, str], torch.Tensor]


def forward_fn_dict(model: torch.nn.Module, inputs: Any) -> Any:
    """`model(**inputs)`; inputs that are a tuple, a list or a tensor are passed by position."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def language_masks(model_input: Any, peft_config: Any) -> list[torch.Tensor]:
    """Where tokens count, `[batch, tokens]`: of the model's input, and of its decoder's where that has another length."""
    config = peft_config.eva_config
    masks = [model_input.get("attention_mask"), model_input.get("decoder_attention_mask")]
    masks = [mask.bool() for mask in masks if mask is not None]
    labels = model_input.get("labels")
    if config.use_label_mask and labels is not None and labels.ndim == 2:
        labelled = labels != config.label_mask_value
        same = [mask.shape == labelled.shape for mask in masks]
        masks = [mask & labelled if alike else mask for mask, alike in zip(masks, same)]
        masks += [] if any(same) else [labelled]
    return masks


def prepare_model_inputs_fn_language_modeling(model_input: Any, peft_config: Any) -> torch.Tensor:
    """Indices `[N, 2]` of the tokens that count: unpadded, and with a label where the config has `use_label_mask`."""
    if not isinstance(model_input, Mapping):
        raise TypeError(
            f"the model's inputs are a {type(model_input).__name__}, expected a dictionary, as "
            "prepare_model_inputs_fn_language_modeling reads their attention_mask and labels"
        )
    masks = language_masks(model_input, peft_config)
    mask = masks[0] if masks else torch.ones_like(model_input["input_ids"], dtype=torch.bool)
    return mask.nonzero()


def prepare_layer_inputs_fn_language_modeling(
    layer_input: Any, model_input: torch.Tensor, layer_name: str
) -> torch.Tensor:
    """The rows of a module's input `[batch, tokens, width]` at the indices `[N, 2]` that count."""
    return tensor_of(layer_input, layer_name)[model_input.unbind(1)]


def tensor_of(layer_input: Any, layer_name: str) -> torch.Tensor:
    """The tensor of a module's input, which hooks see as a tuple."""
    first = layer_input[0] if isinstance(layer_input, (tuple, list)) and layer_input else layer_input
    if not isinstance(first, torch.Tensor):
        raise TypeError(
            f"the input of {layer_name} is a {type(first).__name__}, expected a tensor: give a prepare_layer_inputs_fn"
        )
    return first


class Tokens:
    """The tokens of one batch that count, as its masks `[batch, tokens]` say, for inputs of any layout."""

    def __init__(self, masks: list[torch.Tensor]):
        for mask in masks:
            if mask.ndim != 2:
                raise ValueError(f"attention_mask has shape {list(mask.shape)}, expected [batch, tokens]")
        self._masks = masks
        self._indices: dict[tuple[int, int | None], torch.Tensor | None] = {}

    def rows(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """The rows of `x` `[…, width]` that count: `[N, width]`."""
        flat = x.reshape(-1, x.shape[-1])
        if not self._masks:
            return flat
        for place, mask in enumerate(self._masks):
            if len(flat) == len(mask):
                return flat  # a row for every sequence, as a pooler has
            repeats = rows_a_token(tuple(x.shape[:-1]), tuple(mask.shape))
            if repeats != 0:
                index = self._index(place, repeats)
                return flat if index is None else flat.index_select(0, index.to(flat.device))
        raise ValueError(
            f"the input of {name} has shape {list(x.shape)}, expected rows for each of "
            f"{' or '.join(' x '.join(map(str, mask.shape)) for mask in self._masks)} tokens, as attention_mask and labels "
            "count them: give a prepare_layer_inputs_fn"
        )

    def _index(self, place: int, repeats: int | None) -> torch.Tensor | None:
        """The rows that count of a mask; nothing where all do."""
        if (place, repeats) not in self._indices:
            mask = self._masks[place]
            laid_out = mask.T if repeats is None else mask.repeat_interleave(repeats, dim=1)
            index = None if bool(mask.all()) else laid_out.flatten().nonzero().squeeze(1)
            self._indices[place, repeats] = index
        return self._indices[place, repeats]


def rows_a_token(shape: tuple[int, ...], mask: tuple[int, int]) -> int | None:
    """How many rows, one behind the other, each token of a mask has in an input of this shape, the width left out: 0
    where it does not fit, and None where the tokens come before the batch."""
    batch, tokens = mask
    if shape == (tokens, batch) and batch != tokens:
        return None
    if shape == (batch * tokens,):
        return 1
    if len(shape) == 2 and shape[0] == batch and shape[1] % tokens == 0:
        return shape[1] // tokens  # more than one as in a decision transformer, whose steps are three tokens
    return 0
