"""Draw policies and adapters at random in Python, and compare `eva-rl predict` with transformers and PEFT.

Each case draws a config, weights, a file format, inputs with padding, and sometimes an adapter. The outputs
must agree to 1e-5; `merge` must agree with the adapter to 1e-6 and load in transformers without a missing or an
unexpected key.

    python tools/interop/check_policies.py --cases 50 --seed 0
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import DecisionTransformerConfig, DecisionTransformerModel
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
from golden_policies import lively, make_inputs, predict  # noqa: E402

SITES = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]


def draw_config(draw):
    heads = draw.choice([1, 2, 4])
    return DecisionTransformerConfig(
        state_dim=draw.randint(1, 20),
        act_dim=draw.randint(1, 8),
        hidden_size=heads * draw.choice([4, 8, 16]),
        n_head=heads,
        n_layer=draw.randint(1, 4),
        n_inner=draw.choice([None, 12, 40]),
        activation_function=draw.choice(["gelu_new", "gelu", "relu", "silu", "tanh"]),
        layer_norm_epsilon=draw.choice([1e-5, 1e-3, 1e-6]),
        scale_attn_weights=draw.random() < 0.7,
        scale_attn_by_inverse_layer_idx=draw.random() < 0.4,
        reorder_and_upcast_attn=draw.random() < 0.3,
        max_ep_len=draw.randint(30, 60),
        n_positions=draw.randint(4, 80),
        action_tanh=draw.random() < 0.6,
        n_embd=draw.choice([7, 999]),  # old configs carry one that lies
    )


def save(model, folder, draw):
    """One of the formats that people have."""
    form = draw.choice(["safetensors", "shards", "bin", "bin shards", "old safetensors", "strided bin"])
    model.save_pretrained(folder, max_shard_size="8KB" if form in ("shards", "bin shards") else "5GB")
    state = model.state_dict()
    if form == "old safetensors":
        for layer in range(model.config.n_layer):
            state[f"encoder.h.{layer}.attn.bias"] = torch.ones(1, 1, 16, 16, dtype=torch.uint8).tril()
            state[f"encoder.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    if "bin" in form:
        for path in folder.glob("model*"):
            path.unlink()
    if form == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    if form == "strided bin":
        strided = {name: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor for name, tensor in state.items()}
        torch.save(strided, folder / "pytorch_model.bin", pickle_protocol=draw.choice([2, 4]))
    if form == "bin shards":
        names = sorted(state)
        half = len(names) // 2
        for number, part in enumerate([names[:half], names[half:]]):
            torch.save({name: state[name] for name in part}, folder / f"part-{number}.bin")
        weight_map = {name: f"part-{int(name in names[half:])}.bin" for name in names}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return form


def draw_adapter(model, draw, generator):
    kind = draw.choice(["lora", "rslora", "dora", "rslora+dora"])
    targets = draw.choice([SITES, ["c_attn"], r".*\.h\.\d+\.(attn|mlp)\.c_proj", "all-linear"])
    rank = draw.randint(1, 3)
    config = LoraConfig(
        r=rank,
        lora_alpha=draw.choice([1, 2.5, 8]),
        target_modules=targets,
        use_rslora="rslora" in kind,
        use_dora="dora" in kind,
        rank_pattern={"h.0.attn.c_attn": 1} if draw.random() < 0.5 else {},
        alpha_pattern={r"h\.\d\.attn\.c_\w+": 3.0, "c_attn": 9.0} if draw.random() < 0.5 else {},
        modules_to_save=["predict_return"] if draw.random() < 0.3 and targets != "all-linear" else None,
        bias=draw.choice(["none", "none", "lora_only"]),
    )
    adapted = get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return kind, adapted


def run(binary, *arguments):
    done = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{arguments}: exit {done.returncode}: {done.stderr}")


def worst(found, expected):
    return max((found[name] - expected[name]).abs().max().item() for name in expected)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/eva-rl")
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    binary = Path(args.binary).resolve()
    draw = random.Random(args.seed)
    errors = {"policies": 0.0, "adapters": 0.0, "merged": 0.0}
    for case in range(args.cases):
        generator = torch.Generator().manual_seed(args.seed * 10_000 + case)
        torch.manual_seed(args.seed * 10_000 + case)
        model = DecisionTransformerModel(draw_config(draw)).eval()
        lively(model, generator)
        with tempfile.TemporaryDirectory() as work:
            work = Path(work)
            form = save(model, work / "policy", draw)
            inputs = make_inputs(model.config, draw.randint(1, 5), draw.randint(1, 20), generator)
            save_file(inputs, work / "inputs.safetensors")
            run(binary, "predict", work / "policy", "--inputs", work / "inputs.safetensors", "--out", work / "a")
            base = worst(load_file(work / "a"), predict(model, inputs))
            errors["policies"] = max(errors["policies"], base)
            assert base < 1e-5, (case, form, base, model.config)

            kind, adapted = draw_adapter(model, draw, generator)
            adapted.save_pretrained(work / "adapter")
            if draw.random() < 0.3:  # half-precision files; what PEFT makes of them is the reference
                path = work / "adapter" / "adapter_model.safetensors"
                save_file({k: v.to(torch.bfloat16) for k, v in load_file(path).items()}, path)
            original = DecisionTransformerModel(model.config).eval()
            run(binary, "merge", work / "policy", "--adapter", work / "adapter", "--out", work / "merged")
            run(binary, "predict", work / "policy", "--adapter", work / "adapter", "--inputs",
                work / "inputs.safetensors", "--out", work / "b")  # fmt: skip
            run(binary, "predict", work / "merged", "--inputs", work / "inputs.safetensors", "--out", work / "c")
            original.load_state_dict(plain_state(work / "policy"))
            reference = PeftModel.from_pretrained(original, work / "adapter").eval()
            expected = predict(reference, inputs)
            scale = max(1.0, max(tensor.abs().max().item() for tensor in expected.values()))
            with_adapter = worst(load_file(work / "b"), expected) / scale
            errors["adapters"] = max(errors["adapters"], with_adapter)
            assert with_adapter < 1e-5, (case, kind, with_adapter)
            merged = worst(load_file(work / "c"), load_file(work / "b")) / scale
            errors["merged"] = max(errors["merged"], merged)
            back, info = DecisionTransformerModel.from_pretrained(work / "merged", output_loading_info=True)
            assert not info["missing_keys"] and not info["unexpected_keys"], info
            again = worst(load_file(work / "c"), predict(back.eval(), inputs)) / scale
            assert again < 1e-5, (case, again)
    print(f"{args.cases} cases agree; greatest differences: " + ", ".join(f"{k} {v:.1e}" for k, v in errors.items()))


def plain_state(folder):
    """A policy's state dict as Python reads it, without what old files carry beside it."""
    state = {}
    for path in sorted(folder.glob("*.safetensors")):
        state.update(load_file(path))
    for path in sorted(folder.glob("*.bin")):
        state.update(torch.load(path, weights_only=False))  # made above; protocol 4 is beyond weights_only
    return {name: tensor for name, tensor in state.items() if not name.endswith((".attn.bias", ".masked_bias"))}


if __name__ == "__main__":
    main()
