"""Make the fixtures under tests/golden/policies with transformers and PEFT.

Needs torch 2.11.0, transformers 5.23.0 and peft 0.21.2 (CPU). Run from the repository's root:
    python tools/golden_policies.py
"""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, initialize_lora_eva_weights
from peft.tuners.lora import EvaConfig
from safetensors.torch import save_file
from transformers import DecisionTransformerConfig, DecisionTransformerModel

ROOT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "policies"
SMALL = {"hidden_size": 16, "n_layer": 2, "n_positions": 8, "max_ep_len": 12}
CONFIGS = {
    "plain": {"state_dim": 3, "act_dim": 1},
    "odd": {
        "state_dim": 5,
        "act_dim": 2,
        "n_head": 2,
        "n_inner": 24,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-3,
        "scale_attn_by_inverse_layer_idx": True,
    },
    "discrete": {"state_dim": 4, "act_dim": 3, "n_head": 4, "action_tanh": False, "activation_function": "silu"},
}
SITES = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]


def make_inputs(config, batch, steps, generator):
    """Random inputs whose rows are padded on the left by different amounts."""
    lengths = torch.randint(1, steps + 1, (batch,), generator=generator)
    lengths[0] = steps
    start = torch.randint(0, config.max_ep_len - steps + 1, (batch, 1), generator=generator)
    positions = torch.arange(steps)
    mask = (positions >= steps - lengths[:, None]).long()
    timesteps = (start + positions - (steps - lengths[:, None])).clamp(min=0) * mask
    scales = torch.tensor([3.0 * 0.6**i for i in range(config.state_dim)])
    return {
        "states": torch.randn(batch, steps, config.state_dim, generator=generator) * scales + 0.5,
        "actions": torch.randn(batch, steps, config.act_dim, generator=generator).tanh(),
        "returns_to_go": torch.rand(batch, steps, 1, generator=generator),
        "timesteps": timesteps,
        "attention_mask": mask,
    }


def predict(model, inputs):
    with torch.no_grad():
        out = model(**inputs)
    return {
        "action_preds": out.action_preds.contiguous(),
        "state_preds": out.state_preds.contiguous(),
        "return_preds": out.return_preds.contiguous(),
    }


def lively(model, generator):
    """Weights and biases far from their initial values, so that an error in any of them shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    for name, fields in CONFIGS.items():
        generator = torch.Generator().manual_seed(17)
        torch.manual_seed(17)
        model = DecisionTransformerModel(DecisionTransformerConfig(**SMALL, **fields)).eval()
        lively(model, generator)
        folder = ROOT / name
        model.save_pretrained(folder)
        inputs = make_inputs(model.config, 6, 5, generator)
        save_file(inputs, folder / "inputs.safetensors")
        save_file(predict(model, inputs), folder / "outputs.safetensors")

    base = DecisionTransformerModel.from_pretrained(ROOT / "plain").eval()
    generator = torch.Generator().manual_seed(23)
    inputs = make_inputs(base.config, 6, 5, generator)

    # An adapter that PEFT wrote, with ranks and scales that differ between sites.
    torch.manual_seed(23)
    config = LoraConfig(
        r=3,
        lora_alpha=6,
        target_modules=SITES,
        fan_in_fan_out=True,
        rank_pattern={"h.1.attn.c_proj": 2},
        alpha_pattern={"h.0.mlp.c_fc": 1.5},
    )
    adapted = get_peft_model(base, config).eval()
    lively_adapters = [p for n, p in adapted.named_parameters() if "lora_" in n]
    with torch.no_grad():
        for parameter in lively_adapters:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    adapted.save_pretrained(ROOT / "peft-adapter")
    save_file(inputs, ROOT / "peft-adapter" / "inputs.safetensors")
    save_file(predict(adapted, inputs), ROOT / "peft-adapter" / "outputs.safetensors")

    # PEFT's EVA over fixed batches: its ranks, its vectors, the batches it needed.
    for rho in (1.0, 2.0):
        base = DecisionTransformerModel.from_pretrained(ROOT / "plain").eval()
        batches = [make_inputs(base.config, 64, 5, generator) for _ in range(12)]
        config = LoraConfig(
            r=4,
            lora_alpha=1,
            target_modules=SITES,
            fan_in_fan_out=True,
            init_lora_weights="eva",
            eva_config=EvaConfig(rho=rho, tau=0.99),
        )
        adapted = get_peft_model(base, config)
        seen = []

        def forward(model, batch):
            seen.append(1)
            model(**batch)

        # Whole windows, so that every token is real and both sides see the same rows.
        for batch in batches:
            batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
            batch["timesteps"] = torch.arange(5).repeat(64, 1)
        initialize_lora_eva_weights(
            adapted,
            dataloader=batches,
            forward_fn=forward,
            prepare_model_inputs_fn=None,
            prepare_layer_inputs_fn=None,
            show_progress_bar=False,
        )
        folder = ROOT / f"eva-rho-{rho:g}"
        adapted.save_pretrained(folder)
        stacked = {key: torch.stack([batch[key] for batch in batches]) for key in batches[0]}
        save_file(stacked, folder / "batches.safetensors")
        (folder / "forwards.json").write_text(json.dumps({"forwards": len(seen)}) + "\n")
    for readme in ROOT.glob("*/README.md"):
        readme.unlink()
    for path in ROOT.glob("*/adapter_config.json"):
        config = json.loads(path.read_text())
        config["base_model_name_or_path"] = "plain"
        path.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
