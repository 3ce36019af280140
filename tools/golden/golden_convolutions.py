"""Make the fixtures under agents/tests/golden/convolutions with PEFT and numpy: adapters and EVA on convolutions.

The base is the Atari decision transformer under tests/golden/parity, of which the frames' encoder is made here.
Needs torch 2.11.0, peft 0.21.2 and numpy (CPU). Run from the repository's root:
    python tools/golden/golden_convolutions.py
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = REPOSITORY / "agents" / "tests" / "golden" / "convolutions"
BASE = REPOSITORY / "tests" / "golden" / "parity" / "atari-dt-3"
CONVOLUTIONS = ["state_encoder.0", "state_encoder.2", "state_encoder.4"]
COMPONENTS = 4


class Frames(nn.Module):
    """The part of the policy that reads frames, with the names of its file."""

    def __init__(self):
        super().__init__()
        self.state_encoder = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3136, 24),
            nn.Tanh(),
        )

    def forward(self, x):
        return self.state_encoder(x)


def frames_encoder():
    model = Frames()
    weights = torch.load(BASE / "model.pth", map_location="cpu")
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    return model.eval()


def adapter(name, frames, **settings):
    """An adapter away from zero: its folder, its outputs and gradients, and some of the merged weights."""
    config = LoraConfig(target_modules=[*CONVOLUTIONS, "state_encoder.7"], **settings)
    model = get_peft_model(frames_encoder(), config).eval()
    generator = torch.Generator().manual_seed(7)
    trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
    with torch.no_grad():
        for key, value in trained.items():
            noise = torch.randn(value.shape, generator=generator)
            if "magnitude" in key:
                value *= 1 + 0.1 * noise
            else:
                value.copy_(noise * (0.5 if "lora_B" in key else value[0].numel() ** -0.5))
    outputs = model(frames)
    outputs.square().mean().backward()
    facts = {"outputs": outputs.detach()}
    for key, value in trained.items():
        facts["gradient." + key.removeprefix("base_model.model.").replace(".default", "")] = value.grad
    model.save_pretrained(ROOT / name)
    (ROOT / name / "README.md").unlink()
    path = ROOT / name / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"].sort()  # PEFT keeps a set
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    merged = model.merge_and_unload().state_dict()
    for module in CONVOLUTIONS:
        facts[f"merged.{module}"] = merged[f"{module}.weight"][:2].clone()  # two channels
    save_file(facts, ROOT / f"{name}.safetensors")


def components(frames):
    """numpy's principal components of every patch that the convolutions read, of all patches centred."""
    facts, x = {}, frames
    layers = frames_encoder().state_encoder
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            patches = nn.functional.unfold(x, layer.kernel_size, stride=layer.stride)  # [N, in, P]
            rows = patches.transpose(1, 2).flatten(0, 1).detach().numpy().astype(np.float64)  # [N·P, in]
            rows -= rows.mean(0)
            _, sigma, directions = np.linalg.svd(rows, full_matrices=False)
            name = f"state_encoder.{index}"
            facts[f"{name}.components"] = torch.from_numpy(directions[:COMPONENTS].astype(np.float32))
            facts[f"{name}.explained"] = torch.from_numpy((sigma**2 / (sigma**2).sum())[:COMPONENTS])
        x = layer(x)
    save_file(facts, ROOT / "components.safetensors")


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    frames = load_file(BASE / "window.safetensors")["in.states_uint8"].flatten(0, 1).float() / 255  # [N, C, H, W]
    adapter("lora", frames, r=3, lora_alpha=4, rank_pattern={"state_encoder.2": 2})
    adapter("dora", frames, r=2, lora_alpha=3, use_dora=True, use_rslora=True, alpha_pattern={"state_encoder.4": 5})
    components(frames)


if __name__ == "__main__":
    main()
