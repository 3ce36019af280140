"""Load every adapter that agents/tests/it/convolutions.rs wrote with PEFT, on the untouched base, and compare outputs.

    EVA_RL_CONVOLUTIONS_OUT=$PWD/runs/interop-convolutions cargo test --release -p eva-rl-agents --test it -- convolutions
    python -W ignore tools/interop/check_convolutions.py
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
from golden_convolutions import BASE, frames_encoder  # noqa: E402

EXPORTS = Path(__file__).resolve().parents[2] / "runs" / "interop-convolutions"


def main():
    frames = load_file(BASE / "window.safetensors")["in.states_uint8"].flatten(0, 1).float() / 255
    plain = frames_encoder()(frames)
    folders = sorted(EXPORTS.glob("*"))
    assert len(folders) >= 12, f"the test has written {len(folders)} adapters, expected 12"
    for folder in folders:
        adapted = PeftModel.from_pretrained(frames_encoder(), folder).eval()
        expected = load_file(folder / "outputs.safetensors")["outputs"]
        merged = adapted(frames), adapted.merge_and_unload()(frames)
        assert not torch.allclose(merged[0], plain, atol=1e-3), f"{folder.name} does nothing"
        error = max((found - expected).abs().max().item() for found in merged)  # of outputs within ±1
        print(f"{folder.name}: {error:.1e}")
        assert error < 1e-5, folder.name


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
