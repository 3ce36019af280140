"""Make the fixtures under agents/tests/golden/methods with PEFT, from the policy and the batches of golden_policies.py.

Needs torch 2.11.0, transformers 5.23.0 and peft 0.21.2 (CPU). Run from the repository's root:
    python -W ignore tools/golden/golden_methods.py
"""

import json
import tempfile
from pathlib import Path
from unittest import mock

import torch
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lora.config import CordaConfig, LoraGAConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.loraga import preprocess_loraga
from safetensors.torch import load_file, save_file
from transformers import DecisionTransformerModel

GOLDEN = Path(__file__).resolve().parents[2] / "agents" / "tests" / "golden"
ROOT = GOLDEN / "methods"
LAYERS = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
SITES = [f"encoder.h.1.{layer}" for layer in LAYERS]  # methods that place sites on their own need no more
BATCHES = 2  # of those that EVA's fixtures were made from
RANK, ALPHA = 4, 6.0
ADALORA = {"init_r": 6, "target_r": 2, "total_step": 24, "tinit": 4, "tfinal": 8, "deltaT": 3}
ADALORA_RATE = 0.01
LORA_PLUS = {"rate": 1e-2, "ratio": 16.0, "weight_decay": 0.01, "steps": 6}


class Stack(torch.nn.Module):
    """The sites' maps as `Linear`s, because PEFT's OLoRA and LoRA-GA know no Conv1D."""

    def __init__(self, policy):
        super().__init__()
        for site in SITES:
            weight = policy.get_submodule(site).weight.detach().t()
            linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            linear.weight.data = weight.clone()
            self.add_module(site.replace(".", "_"), linear)


def policy():
    """The tiny policy, without dropout: PEFT takes gradients in training mode."""
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return DecisionTransformerModel.from_pretrained(GOLDEN / "policies" / "plain", **off).eval()


def batches():
    stacked = load_file(GOLDEN / "policies" / "eva-rho-1" / "batches.safetensors")
    return [{name: tensor[index] for name, tensor in stacked.items()} for index in range(BATCHES)]


def save(case, tensors):
    (ROOT / case).mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().float().contiguous().clone() for name, tensor in tensors.items()}
    save_file(tensors, ROOT / case / "expected.safetensors")


def moments():
    """E[x xᵀ] of the sites' inputs over the batches, in float64."""
    model, sums, rows = policy(), {}, {}

    def hook(site):
        def add(_, inputs):
            x = inputs[0].detach().double().flatten(0, -2)
            sums[site] = sums.get(site, 0) + x.t() @ x
            rows[site] = rows.get(site, 0) + len(x)

        return add

    for site in SITES:
        model.get_submodule(site).register_forward_pre_hook(hook(site))
    with torch.no_grad():
        for batch in batches():
            model(**batch)
    return {site: sums[site] / rows[site] for site in SITES}


def gradients():
    """LoRA-GA's mean gradients of imitation's loss, as PEFT estimates them on the policy itself."""
    model = policy()
    config = LoraConfig(target_modules=SITES, init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig())

    def train_step():
        for batch in batches():
            loss = torch.nn.functional.mse_loss(model(**batch).action_preds, batch["actions"])
            loss.backward()

    preprocess_loraga(model, config, train_step)
    return {site: model.get_submodule(site)._peft_loraga_grad.t() for site in SITES}


def place(case, **settings):
    """PEFT's first A and B of one method on the maps."""
    stack = Stack(policy())
    names = [site.replace(".", "_") for site in SITES]
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=names, **settings)
    if case.startswith("corda"):
        with tempfile.TemporaryDirectory() as work:
            path = Path(work) / "covariance.pt"
            torch.save({site.replace(".", "_"): value for site, value in moments().items()}, path)
            config.corda_config.covariance_file = str(path)
            # PEFT inverts the moments in float32, which loses four digits; its own steps in float64 do not.
            torch.set_default_dtype(torch.float64)
            with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
                preprocess_corda(stack, config)
            torch.set_default_dtype(torch.float32)
    if case == "lora-ga":
        for site, gradient in gradients().items():
            stack.get_submodule(site.replace(".", "_"))._peft_loraga_grad = gradient
    adapted = get_peft_model(stack, config)
    tensors = {}
    for site, name in zip(SITES, names):
        layer = adapted.base_model.model.get_submodule(name)
        tensors[f"{site}.A"] = layer.lora_A["default"].weight
        tensors[f"{site}.B"] = layer.lora_B["default"].weight
    save(case, tensors)


def adalora():
    """A short training of the policy by AdaLoRA; after each update, which triplets stay."""
    torch.manual_seed(5)
    targets = [f"encoder.h.{block}.{layer}" for block in (0, 1) for layer in LAYERS]
    config = AdaLoraConfig(target_modules=targets, lora_alpha=ALPHA, fan_in_fan_out=True, **ADALORA)
    model = get_peft_model(policy(), config)
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    short = {name: name.removeprefix("base_model.model.").removesuffix(".default") for name in parameters}
    tensors = {f"start.{short[name]}": value.clone() for name, value in parameters.items()}
    optimiser = torch.optim.AdamW(parameters.values(), lr=ADALORA_RATE, weight_decay=0.0)
    kept, losses = [], []
    batch = batches()[0]
    for step in range(ADALORA["total_step"]):
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(model(**batch).action_preds, batch["actions"])
        norms = []
        for name, value in parameters.items():
            if "lora_E" not in name:
                gram = value @ value.T if "lora_A" in name else value.T @ value
                norms.append(torch.norm(gram - torch.eye(len(gram)), p="fro"))
        loss = loss + config.orth_reg_weight * sum(norms) / len(norms)
        loss.backward()
        optimiser.step()
        model.base_model.update_and_allocate(step)
        losses.append(loss.item())
        everything = [True] * ADALORA["init_r"]
        pattern = config.rank_pattern or {}
        kept.append(torch.tensor([pattern.get(f"{site}.lora_E.default", everything) for site in targets]))
    tensors |= {f"end.{short[name]}": value for name, value in parameters.items()}
    tensors["kept"] = torch.stack(kept)  # [updates, sites, R]
    tensors["losses"] = torch.tensor(losses)
    with torch.no_grad():
        tensors["actions"] = model.eval()(**batch).action_preds
    save("adalora", tensors)


def lora_plus():
    """AdamW on the loss ‖B A − target‖² of one map."""
    torch.manual_seed(6)
    adapted = get_peft_model(Stack(policy()), LoraConfig(r=RANK, target_modules=["encoder_h_1_mlp_c_fc"]))
    down, up = [value for value in adapted.parameters() if value.requires_grad]
    up.data = torch.randn_like(up) * 0.1
    target = torch.randn(up.shape[0], down.shape[1])
    tensors = {"target": target, "start.A": down.clone(), "start.B": up.clone()}
    optimiser = create_loraplus_optimizer(
        adapted,
        torch.optim.AdamW,
        lr=LORA_PLUS["rate"],
        loraplus_lr_ratio=LORA_PLUS["ratio"],
        loraplus_weight_decay=LORA_PLUS["weight_decay"],
    )
    for _ in range(LORA_PLUS["steps"]):
        optimiser.zero_grad()
        (up @ down - target).square().sum().backward()
        optimiser.step()
    save("lora-plus", tensors | {"end.A": down, "end.B": up})


def main():
    place("pissa", init_lora_weights="pissa")
    place("olora", init_lora_weights="olora")
    for mode in ("ipm", "kpm"):
        place(f"corda-{mode}", init_lora_weights="corda", corda_config=CordaConfig(corda_method=mode))
    torch.manual_seed(0)  # PEFT's decomposition of the gradient is a random one, exact at this rank and width
    place("lora-ga", init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig())
    save("gradients", gradients())
    adalora()
    lora_plus()
    settings = {"rank": RANK, "alpha": ALPHA, "batches": BATCHES, "adalora": ADALORA | {"rate": ADALORA_RATE},
                "lora_plus": LORA_PLUS}  # fmt: skip
    (ROOT / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")


if __name__ == "__main__":
    main()
