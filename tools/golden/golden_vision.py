"""Make the fixtures under agents/tests/golden/vision with transformers and PEFT: EVA on a model that is no policy.

Needs torch 2.11.0, transformers 5.23.0 and peft 0.21.2 (CPU). Run from the repository's root:
    python tools/golden/golden_vision.py
"""

import json
import shutil
from pathlib import Path

import torch
from golden_policies import lively
from peft import LoraConfig, get_peft_model, initialize_lora_eva_weights
from peft.tuners.lora import EvaConfig
from safetensors.torch import save_file
from transformers import ViTConfig, ViTModel

ROOT = Path(__file__).resolve().parents[2] / "agents" / "tests" / "golden" / "vision"
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 3,
    "hidden_act": "gelu",
}
MAPS = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]


def make_images(batches, images, generator):
    """A few patterns in strengths that fall off, on a grey that is not zero, and noise."""
    patterns = torch.randn(6, 3, 8, 8, generator=generator)
    strengths = torch.randn(batches, images, 6, generator=generator) * torch.tensor([2.0 * 0.7**i for i in range(6)])
    noise = torch.randn(batches, images, 3, 8, 8, generator=generator) * 0.2
    return torch.einsum("bnp,pchw->bnchw", strengths, patterns) + noise + 0.5


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    generator = torch.Generator().manual_seed(64)
    torch.manual_seed(64)
    model = ViTModel(ViTConfig(**SMALL), add_pooling_layer=False).eval()
    lively(model, generator)
    model.save_pretrained(ROOT, save_original_format=False)  # named as PEFT names them
    images = make_images(12, 40, generator)
    save_file({"pixel_values": images}, ROOT / "batches.safetensors")
    with torch.no_grad():
        out = model(pixel_values=images[0])
    save_file({"last_hidden_state": out.last_hidden_state.contiguous()}, ROOT / "outputs.safetensors")

    # PEFT's EVA over these batches: its ranks, its vectors, the batches it needed.
    for rho in (1.0, 2.0):
        config = LoraConfig(
            r=4,
            lora_alpha=1,
            target_modules=MAPS,
            init_lora_weights="eva",
            eva_config=EvaConfig(rho=rho, tau=0.99),
        )
        adapted = get_peft_model(ViTModel.from_pretrained(ROOT, add_pooling_layer=False).eval(), config)
        seen = []

        def forward(model, pixel_values):
            seen.append(1)
            model(pixel_values=pixel_values)

        initialize_lora_eva_weights(
            adapted,
            dataloader=list(images),
            forward_fn=forward,
            prepare_model_inputs_fn=None,
            prepare_layer_inputs_fn=None,
            show_progress_bar=False,
        )
        folder = ROOT / f"eva-rho-{rho:g}"
        adapted.save_pretrained(folder)
        (folder / "forwards.json").write_text(json.dumps({"forwards": len(seen)}) + "\n")
        (folder / "README.md").unlink()
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text())
        config["base_model_name_or_path"] = "vision"
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()  # PEFT keeps a set
        path.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
