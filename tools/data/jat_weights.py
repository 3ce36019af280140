"""Write a JAT policy of the published size (192.7 million parameters) with random weights, to measure with.

    .venv/bin/python tools/data/jat_weights.py policies/jat-random

The shapes are those of jat-project/jat; the parts that no policy reads (the heads of discrete vectors, the encoder of
pictures beside text) are left out.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

WIDTH, LAYERS, HEADS, WORDS, POSITIONS, NUMBERS, IDS = 768, 12, 12, 50257, 512, 377, 212


def shapes():
    """Name and shape of every tensor, as `save_pretrained` names them."""
    yield "transformer.wte.weight", [WORDS, WIDTH]
    yield "transformer.wpe.weight", [POSITIONS, WIDTH]
    for block in range(LAYERS):
        of_block = f"transformer.h.{block}."
        for norm in ["ln_1", "ln_2"]:
            yield f"{of_block}{norm}.weight", [WIDTH]
            yield f"{of_block}{norm}.bias", [WIDTH]
        for projection in "qkv":
            yield f"{of_block}attn.attention.{projection}_proj.weight", [WIDTH, WIDTH]
        yield from linear(f"{of_block}attn.attention.out_proj", WIDTH, WIDTH)
        yield from linear(f"{of_block}mlp.c_fc", WIDTH, 4 * WIDTH)
        yield from linear(f"{of_block}mlp.c_proj", 4 * WIDTH, WIDTH)
    yield "transformer.ln_f.weight", [WIDTH]
    yield "transformer.ln_f.bias", [WIDTH]
    yield from linear("continuous_encoder", NUMBERS, WIDTH)
    yield from linear("continuous_decoder", WIDTH, NUMBERS)
    yield "single_discrete_decoder.weight", [WORDS, WIDTH]
    yield from linear("multi_discrete_encoder.1", WIDTH, WIDTH // 50)
    yield from linear("multi_discrete_encoder.4", IDS * (WIDTH // 50), WIDTH - 1)
    for number, (read, written) in enumerate([(4, 32), (32, 64), (64, 128)], 1):
        yield f"image_encoder.module.conv{number}.weight", [written, read, 3, 3]
        yield f"image_encoder.module.conv{number}.bias", [written]
        yield f"image_encoder.module.att{number}.fc.0.weight", [written // 8 if number > 1 else 4, written]
        yield f"image_encoder.module.att{number}.fc.2.weight", [written, written // 8 if number > 1 else 4]
    yield from linear("image_encoder.module.fc", 128 * 11 * 11, WIDTH)
    yield from linear("image_decoder.module.fc", WIDTH, 128 * 11 * 11)
    for number, (read, written) in enumerate([(128, 64), (64, 32), (32, 4)], 1):
        yield f"image_decoder.module.deconv{number}.weight", [read, written, 3, 3]
        yield f"image_decoder.module.deconv{number}.bias", [written]
    for number, channels in enumerate([64, 32], 1):
        yield f"image_decoder.module.att{number}.fc.0.weight", [channels // 8, channels]
        yield f"image_decoder.module.att{number}.fc.2.weight", [channels, channels // 8]


def linear(name, read, written):
    """A linear layer's weight and bias."""
    yield f"{name}.weight", [written, read]
    yield f"{name}.bias", [written]


CONFIG = {
    "architectures": ["JatModel"],
    "model_type": "jat",
    "vocab_size": WORDS,
    "max_position_embeddings": POSITIONS,
    "hidden_size": WIDTH,
    "num_layers": LAYERS,
    "attention_types": [[["global", "local"], LAYERS // 2]],
    "attention_layers": ["global", "local"] * (LAYERS // 2),
    "num_heads": HEADS,
    "intermediate_size": None,
    "window_size": 256,
    "activation_function": "gelu_new",
    "resid_dropout": 0.0,
    "embed_dropout": 0.0,
    "attention_dropout": 0.0,
    "layer_norm_epsilon": 1e-5,
    "max_continuous_size": NUMBERS,
    "max_discrete_value": IDS,
    "action_loss_coef": 0.995,
    "observation_loss_coef": 0.005,
    "bos_token_id": WORDS - 1,
    "eos_token_id": WORDS - 1,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path, help="the policy's folder, which must not exist")
    parser.add_argument("--bfloat16", action="store_true", help="weights of half the size")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    torch.manual_seed(0)
    kind = torch.bfloat16 if args.bfloat16 else torch.float32
    tensors = {}
    for name, shape in shapes():
        norm = ".ln_" in name and name.endswith("weight")
        tensors[name] = (torch.ones(shape) if norm else 0.02 * torch.randn(shape)).to(kind)
    (args.out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    save_file(tensors, args.out / "model.safetensors", metadata={"format": "pt"})
    print(f"{sum(tensor.numel() for tensor in tensors.values()):,} parameters are in {args.out}")


if __name__ == "__main__":
    main()
