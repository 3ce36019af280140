"""Modules that PEFT's EVA refuses: convolutions and attention; and what is refused here, by name."""

import pytest
import torch
from models import ConvNet, conv_net, exact_directions
from peft import EvaConfig, LoraConfig, PeftModel
from torch import nn

import eva_rl
from eva_rl import get_eva_state_dict, initialize_lora_eva_weights
from eva_rl.targets import patch_rows


def config(targets, rank=4, **eva):
    return LoraConfig(r=rank, target_modules=targets, init_lora_weights="eva", eva_config=EvaConfig(**eva))


def captured(x):
    """Shares of variance and directions of rows."""
    x = x.double()
    _, sigma, directions = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return sigma, directions


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv1d(3, 4, 5, stride=2, padding=2),
        nn.Conv1d(3, 4, 3, dilation=2, padding="same"),
        nn.Conv2d(3, 4, (2, 3), stride=(1, 2), padding=(1, 0), dilation=(2, 1)),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv3d(2, 4, (1, 2, 3), stride=(1, 1, 2)),
    ],
)
def test_patches_are_what_a_kernel_multiplies(convolution):
    sides = (9, 8, 7)[: len(convolution.kernel_size)]
    x = torch.randn(5, convolution.in_channels, *sides)
    rows = patch_rows(x, convolution, 10_000, torch.Generator())
    expected = convolution(x).movedim(1, -1).flatten(0, -2)
    assert torch.allclose(rows @ convolution.weight.flatten(1).T + convolution.bias, expected, atol=1e-5)


def test_a_few_patches_are_of_every_image_and_at_places_of_its_own():
    convolution = nn.Conv2d(1, 1, 1)
    x = torch.arange(3 * 6 * 7).reshape(3, 1, 6, 7).float()
    drawn = patch_rows(x, convolution, 5, torch.Generator().manual_seed(0)).squeeze(1).long()
    images, places = drawn // 42, drawn % 42
    assert images.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert all(len(set(places[start : start + 5].tolist())) == 5 for start in (0, 5, 10))
    assert len(set(places.tolist())) > 5


def test_a_peft_model_with_convolutions_is_initialised_saved_and_read(tmp_path):
    case = conv_net()
    exact = exact_directions(case)
    model = eva_rl.get_peft_model(case.model, config(case.targets, tau=1.0))
    table = initialize_lora_eva_weights(model, case.batches, show_progress_bar=False, patches=10_000)
    assert sum(module.rank for module in table.modules) == 12
    layers = {module.name.removeprefix("base_model.model."): module.rank for module in table.modules}
    for name, rank in layers.items():
        layer = model.get_submodule(f"base_model.model.{name}")
        assert layer.scaling["default"] == 8 / 4
        down = layer.lora_A["default"].weight.detach().flatten(1).double()
        assert (down @ exact[name][1][:rank].T).square().sum() == pytest.approx(rank, abs=1e-2)
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "lora_B"):
                module.lora_B["default"].weight.normal_()
        expected = model(**case.batches[0])
        model.save_pretrained(tmp_path)
        torch.manual_seed(0)
        base = ConvNet().eval()
        base.load_state_dict({
            name.removeprefix("base_model.model.").replace("base_layer.", ""): value
            for name, value in model.state_dict().items()
            if "lora_" not in name
        })  # fmt: skip
        assert torch.allclose(PeftModel.from_pretrained(base, tmp_path)(**case.batches[0]), expected, atol=1e-5)


class Attending(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=batch_first)
        self.head = nn.Linear(16, 3)

    def forward(self, x, memory=None):
        memory = x if memory is None else memory
        mixed, _ = self.attention(x, memory, value=memory)
        return self.head(mixed)


def heads(attention, x):
    """What the output projection multiplies: `[B, T, D]`."""
    q, k, v = (x @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, -1)
    split = lambda y: y.unflatten(-1, (2, 8)).transpose(1, 2)
    return nn.functional.scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2)


@torch.no_grad()
def test_attention_s_projections_get_the_directions_of_what_they_multiply():
    model = Attending().eval()
    nn.init.normal_(model.attention.in_proj_bias)
    batches = [{"x": torch.randn(6, 10, 16) * 0.8 ** torch.arange(16)} for _ in range(5)]
    found = get_eva_state_dict(model, batches, config(["attention"], tau=1.0, rho=1.0), show_progress_bar=False)
    assert list(found) == ["attention", "attention.out_proj"]
    inputs = torch.cat([batch["x"].flatten(0, 1) for batch in batches])
    outputs = torch.cat([heads(model.attention, batch["x"]).flatten(0, 1) for batch in batches])
    for name, rows in [("attention", inputs), ("attention.out_proj", outputs)]:
        _, directions = captured(rows)
        assert (found[name].double() @ directions[:4].T).square().sum() == pytest.approx(4, abs=1e-3), name


def test_attention_between_two_inputs_counts_both():
    model = Attending().eval()
    x, memory = torch.randn(6, 10, 16), torch.zeros(6, 30, 16)
    memory[..., 5] = 20 * torch.randn(6, 30)
    batches = [{"x": x, "memory": memory}]
    found = get_eva_state_dict(model, batches, config(["attention"], tau=1.0, rho=1.0), show_progress_bar=False)
    assert abs(found["attention"][0, 5]) > 0.99
    rows = torch.cat([x.flatten(0, 1), memory.flatten(0, 1)])
    _, directions = captured(rows)
    assert (found["attention"].double() @ directions[:4].T).square().sum() == pytest.approx(4, abs=1e-3)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_peft_model_with_attention_is_initialised_saved_and_read(tmp_path, batch_first):
    torch.manual_seed(2)
    base = Attending(batch_first).eval()
    state = {name: value.clone() for name, value in base.state_dict().items()}
    model = eva_rl.get_peft_model(base, config(["attention", "head"], rank=3))
    batches = [{"x": torch.randn(6, 10, 16) * 0.8 ** torch.arange(16)} for _ in range(5)]
    with torch.no_grad():
        before = model(**batches[0])
        initialize_lora_eva_weights(model, batches, show_progress_bar=False)
        assert torch.allclose(model(**batches[0]), before, atol=1e-5)
        attention = model.get_submodule("base_model.model.attention")
        assert attention.r["default"] == attention.base_layer.out_proj.r["default"] >= 1
        attention.lora_B["default"].weight.normal_()
        attention.base_layer.out_proj.lora_B["default"].weight.normal_()
        expected = model(**batches[0])
        model.save_pretrained(tmp_path)
        fresh = Attending(batch_first).eval()
        fresh.load_state_dict(state)
        assert torch.allclose(PeftModel.from_pretrained(fresh, tmp_path)(**batches[0]), expected, atol=1e-5)


def test_an_attention_s_projections_take_the_smaller_of_their_ranks():
    model = eva_rl.get_peft_model(Attending(), config(["attention"]))
    name = "base_model.model.attention"
    ranks = {name: torch.eye(16)[:3], f"{name}.base_layer.out_proj": torch.eye(16)[:2]}
    initialize_lora_eva_weights(model, eva_state_dict=ranks)
    attention = model.get_submodule(name)
    assert attention.r["default"] == attention.base_layer.out_proj.r["default"] == 2
    assert model.peft_config["default"].rank_pattern == {"attention": 2, "attention.base_layer.out_proj": 2}


def test_an_attention_that_gets_no_rank_is_itself_again():
    base = Attending().eval()
    model = eva_rl.get_peft_model(base, config(["attention", "head"]))
    found = get_eva_state_dict(model, [{"x": torch.randn(9, 10, 16)}], show_progress_bar=False)
    found["base_model.model.attention"] = torch.zeros(0, 16)
    initialize_lora_eva_weights(model, eva_state_dict=found)
    attention = model.get_submodule("base_model.model.attention")
    assert type(attention) is nn.MultiheadAttention and isinstance(attention.out_proj, nn.Linear)
    assert "base_layer" not in str(attention)
    assert model.peft_config["default"].target_modules == ["head"]


class Refused(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.grouped = nn.Conv1d(8, 8, 3, groups=2)
        self.map = nn.Linear(8, 8)

    def forward(self, input_ids):
        return self.map(self.grouped(self.words(input_ids).mT).mT)


def test_embeddings_and_grouped_convolutions_are_refused_by_name():
    batches = [{"input_ids": torch.randint(0, 30, (6, 10))} for _ in range(3)]
    targets = config(["words", "grouped", "map"])
    with pytest.warns(UserWarning, match=r"left as they are: \['words', 'grouped'\]"):
        found = get_eva_state_dict(Refused(), batches, targets, show_progress_bar=False)
    assert list(found) == ["map"]
    model = eva_rl.get_peft_model(Refused(), targets)
    with pytest.warns(UserWarning, match=r"not found in the eva state_dict: \['words', 'grouped'\]"):
        initialize_lora_eva_weights(model, batches, show_progress_bar=False)
    assert sorted(model.peft_config["default"].target_modules) == ["grouped", "map", "words"]
