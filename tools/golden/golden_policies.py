"""Make the fixtures under agents/tests/golden/policies with transformers and PEFT.

Needs torch 2.11.0, transformers 5.23.0 and peft 0.21.2 (CPU). Run from the repository's root:
    python tools/golden/golden_policies.py
"""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, initialize_lora_eva_weights
from peft.tuners.lora import EvaConfig
from safetensors.torch import load_file, save_file
from transformers import DecisionTransformerConfig, DecisionTransformerModel
from transformers.models.decision_transformer.modeling_decision_transformer import DecisionTransformerGPT2Model

ROOT = Path(__file__).resolve().parents[2] / "agents" / "tests" / "golden" / "policies"
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


class FourTokens(torch.nn.Module):
    """L2M's and EVA's order (state, return, action, reward), global positions, actions in bins.

    transformers has no such model, so this is put together from its GPT-2, and is the reference.
    """

    def __init__(self, config, bins):
        super().__init__()
        width = config.hidden_size
        self.encoder = DecisionTransformerGPT2Model(config)
        self.embed_timestep = torch.nn.Embedding(config.max_ep_len, width)
        self.embed_state = torch.nn.Linear(config.state_dim, width)
        self.embed_return = torch.nn.Linear(1, width)
        self.embed_action = torch.nn.Linear(config.act_dim, width)
        self.embed_reward = torch.nn.Linear(1, width)
        self.embed_ln = torch.nn.LayerNorm(width)
        self.predict_state = torch.nn.Linear(width, config.state_dim)
        self.predict_action = torch.nn.Sequential(torch.nn.Linear(width, config.act_dim * bins))
        self.predict_return = torch.nn.Linear(width, 1)
        self.bins = bins

    def forward(self, states, actions, rewards, returns_to_go, timesteps, attention_mask):
        batch, steps, _ = states.shape
        time = self.embed_timestep(timesteps)
        mask = attention_mask.repeat_interleave(4, dim=1)
        tokens = [self.embed_state(states), self.embed_return(returns_to_go), self.embed_action(actions),
                  self.embed_reward(rewards)]  # fmt: skip
        x = torch.stack([token + time for token in tokens], dim=2).reshape(batch, 4 * steps, -1)
        x = self.encoder(
            inputs_embeds=self.embed_ln(x),
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),  # from the first real token
        ).last_hidden_state.reshape(batch, steps, 4, -1)
        logits = self.predict_action(x[:, :, 1]).reshape(batch, steps, -1, self.bins)
        return {
            "action_preds": logits.argmax(-1) * 2.0 / (self.bins - 1) - 1.0,
            "action_logits": logits,
            "state_preds": self.predict_state(x[:, :, 2]),
            "return_preds": self.predict_return(x[:, :, 2]),
        }


class Script(torch.nn.Module):
    """A policy of somebody's own making, for TorchScript."""

    def __init__(self):
        super().__init__()
        self.state = torch.nn.Linear(3, 8)
        self.action = torch.nn.Linear(8, 1)
        self.time = torch.nn.Embedding(200, 8)

    def forward(self, states, actions, returns_to_go, timesteps, attention_mask):
        x = torch.tanh(self.state(states) + returns_to_go + self.time(timesteps))
        return torch.tanh(self.action(x * attention_mask.unsqueeze(-1)))


def formats():
    """The policy `odd` in the other formats that people have."""
    state = load_file(ROOT / "odd" / "model.safetensors")
    for name in ("shards", "pickle", "old"):
        folder = ROOT / name
        folder.mkdir()
        shutil.copy(ROOT / "odd" / "config.json", folder)
    names = sorted(state)
    parts = {"part-1.safetensors": names[:20], "part-2.safetensors": names[20:]}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, ROOT / "shards" / file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    index = json.dumps({"metadata": {}, "weight_map": weight_map}, indent=2)
    (ROOT / "shards" / "model.safetensors.index.json").write_text(index + "\n")

    # Matrices as transposed views, one of them inside a larger storage.
    strided = {name: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor for name, tensor in state.items()}
    inside = torch.zeros(5, *state["embed_state.weight"].shape)
    inside[3] = state["embed_state.weight"]
    strided["embed_state.weight"] = inside[3]
    torch.save(strided, ROOT / "pickle" / "pytorch_model.bin")

    for layer in range(2):
        state[f"encoder.h.{layer}.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.uint8).tril()
        state[f"encoder.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(state, ROOT / "old" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((ROOT / "odd" / "config.json").read_text())
    config["n_embd"] = 768
    config["num_hidden_layers"] = config.pop("n_layer")
    (ROOT / "old" / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def adapters():
    """Adapters of `plain` that PEFT wrote, one for every rule of its format."""
    cases = {
        "peft-dora": {"target_modules": "all-linear", "use_dora": True, "use_rslora": True, "r": 2},
        "peft-saved": {
            "target_modules": r".*\.h\.\d+\.mlp\.c_(fc|proj)",
            "modules_to_save": ["predict_action"],
            "bias": "lora_only",
            "r": 2,
            "use_dora": True,
            "alpha_pattern": {r"h\.\d\.mlp\.c_p\w+": 3.0, "c_fc": 5.0},
        },
    }
    for name, fields in cases.items():
        base = DecisionTransformerModel.from_pretrained(ROOT / "plain").eval()
        generator = torch.Generator().manual_seed(31)
        torch.manual_seed(31)
        inputs = make_inputs(base.config, 6, 5, generator)
        adapted = get_peft_model(base, LoraConfig(lora_alpha=4, **fields)).eval()
        with torch.no_grad():
            for key, parameter in adapted.named_parameters():
                if "lora_" in key or "modules_to_save" in key or key.endswith("c_fc.base_layer.bias"):
                    parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
        adapted.save_pretrained(ROOT / name)
        save_file(inputs, ROOT / name / "inputs.safetensors")
        base = DecisionTransformerModel.from_pretrained(ROOT / "plain").eval()
        again = PeftModel.from_pretrained(base, ROOT / name).eval()  # the folder is what we read too
        save_file(predict(again, inputs), ROOT / name / "outputs.safetensors")


def relatives():
    """Policies that transformers has no model for."""
    generator = torch.Generator().manual_seed(41)
    torch.manual_seed(41)
    fields = {"state_dim": 4, "act_dim": 2, "n_head": 2, "activation_function": "gelu", **SMALL, "n_positions": 24}
    config = DecisionTransformerConfig(**fields)
    model = FourTokens(config, bins=5).eval()
    lively(model, generator)
    folder = ROOT / "four-tokens"
    folder.mkdir()
    own = {
        "model_type": "eva_rl_decision_transformer",
        "token_order": ["state", "return", "action", "reward"],
        "global_positions": True,
        "action_kind": "binned",
        "action_bins": 5,
        "action_tanh": False,
    }
    (folder / "config.json").write_text(json.dumps({**fields, **own}, indent=2) + "\n")
    save_file(model.state_dict(), folder / "model.safetensors")
    inputs = make_inputs(config, 6, 5, generator)
    inputs["rewards"] = torch.randn(6, 5, 1, generator=generator)
    save_file(inputs, folder / "inputs.safetensors")
    with torch.no_grad():
        outputs = model(**inputs)
    save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, folder / "outputs.safetensors")

    folder = ROOT / "script"
    folder.mkdir()
    torch.manual_seed(43)
    module = Script().eval()
    torch.jit.script(module).save(folder / "model.pt")
    known = {
        "state_dim": 3,
        "act_dim": 1,
        "max_ep_len": 200,
        "context_length": 4,
        "state_mean": [0.1, 0.0, 0.5],
        "state_std": [0.7, 0.7, 3.0],
        "return_scale": 200.0,
        "target_return": -300.0,
        "action_low": [-2.0],
        "action_high": [2.0],
    }
    (folder / "config.json").write_text(json.dumps(known, indent=2) + "\n")
    inputs = make_inputs(DecisionTransformerConfig(state_dim=3, act_dim=1, max_ep_len=200), 6, 5, generator)
    save_file(inputs, folder / "inputs.safetensors")
    with torch.no_grad():
        save_file({"action_preds": module(**inputs)}, folder / "outputs.safetensors")


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

    formats()
    adapters()
    relatives()
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
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()  # PEFT keeps a set
        path.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
