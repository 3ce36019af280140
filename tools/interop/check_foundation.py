"""Check that PEFT, applied to JAT's module under the published names, computes what eva-rl does.

The policy is a folder of the tests, the adapter EVA's of random play; the module is transformers' GPT-Neo with JAT's
layers (`jat_model.py`).

    .venv/bin/python tools/interop/check_foundation.py --binary target/release/eva-rl
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import torch
from jat_model import Acting, Jat
from peft import PeftModel
from safetensors.torch import load_file, save_file

POLICY = Path(__file__).parents[2] / "tests/golden/parity/jat-2"
STATES, ACTIONS, STEPS = 11, 3, 6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/eva-rl")
    binary = parser.parse_args().binary

    def run(*arguments):
        subprocess.run([binary, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("collect", "--env", "Hopper-v5", "--policy", "random", "--episodes", 8, "--out", folder / "data")
        run("eva", POLICY, "--data", folder / "data", "--rank", 2, "--out", folder / "adapter")
        # EVA's B is zero: a trained one is what shows.
        weights = load_file(folder / "adapter/adapter_model.safetensors")
        torch.manual_seed(0)
        trained = {key: torch.randn_like(x) if "lora_B" in key else x for key, x in weights.items()}
        save_file(trained, folder / "adapter/adapter_model.safetensors", metadata={"format": "pt"})

        inputs = {
            "states": torch.randn(4, STEPS, STATES),
            "actions": torch.randn(4, STEPS, ACTIONS),
            "previous_rewards": torch.randn(4, STEPS, 1),
            "timesteps": torch.arange(STEPS).repeat(4, 1),
        }
        save_file(inputs, folder / "inputs.safetensors")
        given = [inputs[key] for key in ["states", "actions", "previous_rewards"]]
        found = {}
        for what, adapter in [("alone", []), ("adapted", ["--adapter", folder / "adapter"])]:
            out = folder / f"{what}.safetensors"
            run("predict", POLICY, *adapter, "--inputs", folder / "inputs.safetensors", "--out", out)
            found[what] = load_file(out)["action_preds"]

        model = Jat.read(POLICY)
        with torch.no_grad():
            check("JAT's module", model(*given), found["alone"])
            acting = Acting(model, ACTIONS)
            first = acting.act(inputs["states"][0, 0], 0.0)
            alone = model(inputs["states"][:1, :1], inputs["actions"][:1, :1], torch.zeros(1, 1, 1))[0, 0]
            check("its first action", first, alone)
            adapted = PeftModel.from_pretrained(model, folder / "adapter").eval()
            check("PEFT on it", adapted(*given), found["adapted"])
        assert (found["alone"] - found["adapted"]).abs().max() > 0.01, "the adapter changes nothing"


def check(what, theirs, ours):
    """Prints the worst difference, and ends where it is beyond 1e-4."""
    worst = (theirs - ours).abs().max().item()
    print(f"{what}: worst difference {worst:.1e}")
    assert worst < 1e-4, what


if __name__ == "__main__":
    main()
