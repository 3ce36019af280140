"""Load every adapter that agents/tests/it/methods.rs wrote with PEFT, on the untouched base, and compare outputs.

    EVA_RL_METHODS_OUT=$PWD/runs/interop-methods cargo test --release -p eva-rl-agents --test it -- methods
    python -W ignore tools/interop/check_methods.py
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import DecisionTransformerModel
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
from golden_policies import predict  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "agents" / "tests" / "golden" / "policies"
EXPORTS = REPOSITORY / "runs" / "interop-methods"
METHODS = {"lora", "pissa", "milora", "olora", "corda_ipm", "corda_kpm", "lora_ga", "lora_one", "ipa", "adalora",
           "pissa_dora", "adalora_dora", "head_only"}  # fmt: skip


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    batches = load_file(GOLDEN / "eva-rho-1" / "batches.safetensors")
    inputs = {name: tensor[0] for name, tensor in batches.items()}
    missing = METHODS - {folder.name for folder in EXPORTS.glob("*")}
    assert not missing, f"the test has not written {sorted(missing)}"
    for method in sorted(METHODS):
        base = DecisionTransformerModel.from_pretrained(GOLDEN / "plain").eval()
        plain = predict(base, inputs)
        adapted = PeftModel.from_pretrained(base, EXPORTS / method).eval()
        found, expected = predict(adapted, inputs), load_file(EXPORTS / method / "outputs.safetensors")
        assert not torch.allclose(found["action_preds"], plain["action_preds"], atol=1e-3), f"{method} does nothing"
        scale = max(1.0, *(tensor.abs().max().item() for tensor in expected.values()))
        error = max((found[name] - expected[name]).abs().max().item() for name in expected) / scale
        print(f"{method}: {error:.1e}")
        assert error < 1e-5, method


if __name__ == "__main__":
    main()
