"""Which rows of an input count, whatever its layout."""

import pytest
import torch
from models import bert

from eva_rl.rows import Tokens, language_masks

MASK = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()


def numbered(*shape):
    """An input whose rows are their own numbers."""
    rows = torch.Size(shape).numel()
    return torch.arange(rows).float().reshape(*shape, 1)


@pytest.mark.parametrize(
    ("shape", "counted"),
    [
        ((2, 3), [0, 1, 3]),
        ((6,), [0, 1, 3]),
        ((3, 2), [0, 1, 2]),  # tokens first: the second token of the first sequence is row 2
        ((2, 6), [0, 1, 2, 3, 6, 7]),  # two rows a token
        ((2,), [0, 1]),  # a row a sequence
    ],
)
def test_rows_of_real_tokens_count(shape, counted):
    assert Tokens([MASK]).rows(numbered(*shape), "x").flatten().tolist() == counted


def test_all_rows_count_without_a_mask_and_are_not_copied():
    x = numbered(2, 3)
    for tokens in [Tokens([]), Tokens([torch.ones(2, 3).bool()])]:
        rows = tokens.rows(x, "x")
        assert rows.data_ptr() == x.data_ptr() and rows.shape == (6, 1)


def test_a_decoder_s_tokens_have_a_mask_of_their_own():
    tokens = Tokens([MASK, torch.tensor([[1, 0, 0, 0], [0, 1, 1, 1]]).bool()])
    assert tokens.rows(numbered(2, 4), "x").flatten().tolist() == [0, 5, 6, 7]
    assert tokens.rows(numbered(2, 3), "x").flatten().tolist() == [0, 1, 3]


def test_rows_that_no_mask_fits_are_refused_by_name():
    with pytest.raises(
        ValueError, match=r"the input of layer.7 has shape \[2, 4, 1\], expected rows for each of 2 x 3 tokens"
    ):
        Tokens([MASK]).rows(numbered(2, 4), "layer.7")
    with pytest.raises(ValueError, match=r"attention_mask has shape \[1, 2, 3\], expected \[batch, tokens\]"):
        Tokens([MASK[None]])


def test_labels_leave_tokens_out_where_the_config_says_so():
    labels = torch.tensor([[-100, 5, 5], [5, 5, 5]])
    inputs = {"attention_mask": MASK.long(), "labels": labels}
    (mask,) = language_masks(inputs, bert().config())
    assert mask.tolist() == [[False, True, False], [True, False, False]]
    (mask,) = language_masks(inputs, bert().config(use_label_mask=False))
    assert torch.equal(mask, MASK)
    (mask,) = language_masks({"labels": labels}, bert().config(label_mask_value=5))
    assert mask.tolist() == [[True, False, False], [False] * 3]
    masks = language_masks({"attention_mask": MASK.long(), "labels": labels[:, :2]}, bert().config())
    assert [list(mask.shape) for mask in masks] == [[2, 3], [2, 2]]
    assert len(language_masks({"labels": torch.tensor([1, 2])}, bert().config())) == 0  # classes of sequences
