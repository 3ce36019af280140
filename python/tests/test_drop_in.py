"""What PEFT's two functions do besides finding directions: refusals, ranks and alphas of the model, its state."""

from copy import deepcopy

import peft
import peft.tuners.lora.eva as peft_eva
import pytest
import torch
from models import Counted, bert, decision_transformer, llama
from peft import EvaConfig, LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

import eva_rl
from eva_rl import get_eva_state_dict, initialize_lora_eva_weights


@pytest.fixture
def case():
    return llama()


def adapted(case, **eva):
    torch.manual_seed(1)
    return get_peft_model(deepcopy(case.model), case.config(**eva))


def adapters(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def initialised(case, **options):
    model = adapted(case)
    initialize_lora_eva_weights(model, case.batches, show_progress_bar=False, **options)
    return model


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda _: llama().model, {}, "model must be a PeftModel"),
        (lambda model: model, {"dataloader": None}, "dataloader is required if eva_state_dict is not provided"),
        (lambda model: set_init(model, True), {}, "can only be used with `init_lora_weights='eva'`"),
        (lambda model: two_adapters(model), {}, "currently only works with a single active adapter"),
        (lambda model: model, {"dataloader": []}, "dataloader is empty"),
        (
            lambda model: model,
            {"prepare_layer_inputs_fn": {"nowhere": lambda *_: None}, "prepare_model_inputs_fn": None},
            "prepare_layer_inputs_fn is a mapping but the following module names were not found",
        ),
    ],
)
@pytest.mark.parametrize("library", [eva_rl, peft_eva])
def test_it_raises_what_peft_raises(case, library, change, arguments, message):
    model = change(adapted(case))
    arguments = {"dataloader": case.batches, "show_progress_bar": False, **arguments}
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        library.initialize_lora_eva_weights(model, **arguments)


def set_init(model, init):
    model.peft_config["default"].init_lora_weights = init
    return model


def two_adapters(model):
    model.add_adapter("second", LoraConfig(target_modules=["q_proj"]))
    model.base_model.set_adapter(["default", "second"])
    return model


@pytest.mark.parametrize("library", [eva_rl, peft_eva])
def test_a_model_without_adapters_needs_a_config(case, library):
    with pytest.raises(ValueError, match="peft_config is required if model is not a PeftModel"):
        library.get_eva_state_dict(case.model, case.batches)


@pytest.mark.parametrize("library", [eva_rl, peft_eva])
def test_the_default_functions_want_a_dictionary(case, library):
    with pytest.raises(TypeError, match="dictionary"):
        library.prepare_model_inputs_fn_language_modeling([1], case.config())


def test_the_default_functions_find_peft_s_rows(case):
    batch = {**case.batches[0], "labels": torch.where(torch.rand(8, 24) < 0.5, -100, 1)}
    x = torch.randn(8, 24, 32)
    for config in [case.config(), case.config(use_label_mask=False), case.config(label_mask_value=1)]:
        found = []
        for library in (eva_rl, peft_eva):
            places = library.prepare_model_inputs_fn_language_modeling(batch, config)
            found.append(library.prepare_layer_inputs_fn_language_modeling((x,), places, "x"))
        assert torch.equal(*found)


@pytest.mark.parametrize("adjust", [True, False])
def test_ranks_and_alphas_of_the_model_are_peft_s(case, adjust):
    config = case.config(adjust_scaling_factors=adjust)
    config.rank_pattern, config.alpha_pattern = {"layers.0.self_attn.q_proj": 2, "down_proj": 6}, {"up_proj": 3}
    models = [get_peft_model(deepcopy(case.model), deepcopy(config)) for _ in range(2)]
    found = get_eva_state_dict(models[0], case.batches, show_progress_bar=False)
    name = next(iter(found))
    found[name] = found[name][:0]
    eva_rl.initialize_lora_eva_weights(models[0], eva_state_dict=found)
    peft_eva.initialize_lora_eva_weights(models[1], eva_state_dict=dict(found))
    ours, theirs = (model.peft_config["default"] for model in models)
    assert sorted(ours.target_modules) == sorted(theirs.target_modules)
    assert (ours.rank_pattern, ours.alpha_pattern) == (theirs.rank_pattern, theirs.alpha_pattern)
    here, there = (adapters(model) for model in models)
    assert here.keys() == there.keys()
    assert name not in here
    for name in here:
        assert here[name].scaling == there[name].scaling
        assert torch.equal(here[name].lora_A["default"].weight, there[name].lora_A["default"].weight)
        assert torch.equal(here[name].lora_B["default"].weight, there[name].lora_B["default"].weight)


def test_a_rank_pattern_sets_the_budget_and_the_most_of_a_module(case):
    config = case.config(rho=1.0)
    config.rank_pattern = {"down_proj": 7}
    found = get_eva_state_dict(case.model, case.batches, config, show_progress_bar=False)
    for name, down in found.items():
        assert len(down) <= (7 if "down_proj" in name else 4)
    assert sum(map(len, found.values())) == sum(7 if "down_proj" in name else 4 for name in found)
    assert any(len(down) > 4 for down in found.values())


def test_the_model_computes_what_it_did_before_and_trains_from_there(case):
    model = initialised(case)
    batch = case.batches[0]
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, case.model(**batch).logits, atol=1e-5)
    for module in adapters(model).values():
        down = module.lora_A["default"].weight
        assert torch.allclose(down @ down.T, torch.eye(len(down)), atol=1e-4)
        assert not module.lora_B["default"].weight.any()
    model(**batch, labels=batch["input_ids"]).loss.backward()
    assert all(module.lora_B["default"].weight.grad.abs().sum() > 0 for module in adapters(model).values())


def test_a_saved_adapter_is_read_by_peft(case, tmp_path):
    model = initialised(case)
    with torch.no_grad():
        for module in adapters(model).values():
            module.lora_B["default"].weight.normal_()
    model.save_pretrained(tmp_path)
    read = peft.PeftModel.from_pretrained(deepcopy(case.model), tmp_path)
    with torch.no_grad():
        outputs = [one(**case.batches[0]).logits for one in (model, read)]
    assert torch.allclose(*outputs, atol=1e-5)


def test_whitening_divides_by_the_root_of_singular_values_once(case):
    plain = get_eva_state_dict(case.model, case.batches, case.config(tau=1.0), show_progress_bar=False)
    white = get_eva_state_dict(case.model, case.batches, case.config(tau=1.0, whiten=True), show_progress_bar=False)
    shared = [name for name in plain if "layers.1.self_attn" in name and "o_proj" not in name]
    for name in shared:
        norms = white[name].norm(dim=1)
        assert torch.allclose(white[name] / norms[:, None], plain[name], atol=1e-4)
        assert torch.all(norms.diff() > 0), "singular values fall"
        # What modules share is not divided again for each, as PEFT does in place.
        assert torch.allclose(norms[:2], white[shared[0]].norm(dim=1)[:2])


def test_modules_of_the_model_keep_their_modes(case):
    case.model.train()
    case.model.model.layers[0].mlp.eval()
    before = [module.training for module in case.model.modules()]
    get_eva_state_dict(case.model, case.batches, case.config(), show_progress_bar=False)
    assert [module.training for module in case.model.modules()] == before
    assert not any(module._forward_pre_hooks for module in case.model.modules())


def test_a_caller_s_functions_are_called_as_peft_calls_them(case):
    def model_inputs(inputs, config):
        return inputs["attention_mask"].bool(), config.r

    def first_tokens(layer_input, prepared, name):
        mask, rank = prepared
        assert rank == 4 and isinstance(layer_input, tuple) and name in targets
        return layer_input[0][:, 0] if layer_input[0].shape[:2] == mask.shape else layer_input[0]

    targets = {name for name, _ in case.model.named_modules()}
    functions = {"prepare_model_inputs_fn": model_inputs, "prepare_layer_inputs_fn": first_tokens}
    arguments = (case.model, case.batches * 4, case.config(tau=1.0, rho=1.0))
    found = get_eva_state_dict(*arguments, show_progress_bar=False, **functions)
    whole = get_eva_state_dict(*arguments, show_progress_bar=False)
    name = "model.layers.1.mlp.down_proj"
    assert (found[name] @ whole[name].T).square().sum() < 3.99, "the rows were the same"


def test_a_mapping_of_functions_leaves_the_others_flattened(case):
    name = "model.layers.0.mlp.down_proj"
    functions = {name: lambda layer_input, *_: layer_input[0].flatten(0, -2) * torch.linspace(1, 5, 64)}
    plain = {"prepare_model_inputs_fn": None, "prepare_layer_inputs_fn": None, "show_progress_bar": False}
    arguments = (case.model, case.batches, case.config(tau=1.0, rho=1.0))
    mapped = get_eva_state_dict(*arguments, **{**plain, "prepare_layer_inputs_fn": functions})
    flattened = get_eva_state_dict(*arguments, **plain)
    assert list(functions) == [name], "the caller's mapping is left as it was"
    for other in mapped:
        same = torch.allclose(mapped[other], flattened[other], atol=1e-4)
        assert same == (other != name), other


def test_a_plain_module_needs_no_peft_model():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))
    batches = [torch.randn(50, 12) for _ in range(4)]
    config = LoraConfig(r=2, target_modules=None, init_lora_weights="eva", eva_config=EvaConfig(tau=1.0))
    found = get_eva_state_dict(model, batches, config, show_progress_bar=False)
    _, _, directions = torch.linalg.svd(torch.cat(batches) - torch.cat(batches).mean(0))
    rank = len(found["0"])
    assert (found["0"] @ directions[:rank].T).square().sum() == pytest.approx(rank, abs=1e-3)
    assert set(found) == {"0", "2"} and sum(map(len, found.values())) == 4


def test_half_precision_counts_its_activations_in_full():
    case = bert()
    whole = get_eva_state_dict(case.model, case.batches, case.config(tau=1.0, rho=1.0), show_progress_bar=False)
    case.model.to(torch.bfloat16)
    half = get_eva_state_dict(case.model, case.batches, case.config(tau=1.0, rho=1.0), show_progress_bar=False)
    assert all(down.dtype == torch.float32 for down in half.values())
    for name in whole:
        assert (whole[name] @ half[name].T).square().sum() > 3.9, name


def test_the_table_is_returned_and_printed(case, capsys):
    model = adapted(case)
    table = initialize_lora_eva_weights(model, case.batches)
    assert str(table) in capsys.readouterr().out
    ranks = {module.name: module.rank for module in table.modules}
    assert {name: module.r["default"] for name, module in adapters(model).items()} == {
        name: rank for name, rank in ranks.items() if rank > 0
    }
    assert str(table).endswith(f"{len(ranks)} modules, ranks {sum(ranks.values())} in all")


def test_a_decision_transformer_s_padded_steps_do_not_count():
    case = decision_transformer()
    padded = []
    for batch in case.batches:
        long = {key: torch.cat([torch.full_like(value[:, :3], 7), value], 1) for key, value in batch.items()}
        long["attention_mask"][:, :3] = 0
        padded.append(long)
    counted = Counted()
    config = case.config(tau=1.0, rho=1.0)
    found = get_eva_state_dict(case.model, padded, config, forward_fn=counted, show_progress_bar=False)
    clean = get_eva_state_dict(case.model, case.batches, config, show_progress_bar=False)
    name = "encoder.h.0.attn.c_attn"  # rows that padding changes nowhere but by counting
    assert (found[name] @ clean[name].T).square().sum() == pytest.approx(len(found[name]), abs=1e-2)
