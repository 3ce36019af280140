"""Make the fixtures under tests/golden/foreign and agents/tests/golden/foreign: files as other programs leave them, and what they should be read as.

Needs torch, transformers, PEFT, minari with hdf5, and the policy agents/tests/golden/policies/plain. Run from the
repository's root:
    python tools/golden/golden_foreign.py
"""

import json
import os
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "tests" / "golden"
POLICIES = REPOSITORY / "agents" / "tests" / "golden"
ROOT, PLAIN = POLICIES / "foreign", POLICIES / "policies" / "plain"
os.environ["MINARI_DATASETS_PATH"] = str(GOLDEN / "foreign" / "minari")

import h5py  # noqa: E402
import minari  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from gymnasium import spaces  # noqa: E402
from minari.data_collector import EpisodeBuffer  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import DecisionTransformerModel  # noqa: E402


def predict(model, inputs):
    with torch.no_grad():
        said = model(**inputs)
    return {name: said[name].float().contiguous() for name in ("action_preds", "state_preds", "return_preds")}


def adapter(name, **config):
    """An adapter with a name, which PEFT puts into a folder below the one that it is given."""
    torch.manual_seed(5)
    base = DecisionTransformerModel.from_pretrained(PLAIN).eval()
    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, fan_in_fan_out=True, **config), adapter_name="task1")
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                parameter.add_(0.2 * torch.randn_like(parameter))
    adapted.eval().save_pretrained(ROOT / name)
    inputs = load_file(PLAIN / "inputs.safetensors")
    save_file(inputs, ROOT / name / "inputs.safetensors")
    save_file(predict(adapted, inputs), ROOT / name / "outputs.safetensors")
    path = ROOT / name / "task1" / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = "plain"
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # PEFT keeps a set
    path.write_text(json.dumps(config, indent=2) + "\n")
    (ROOT / name / "README.md").unlink()


def checkpoints():
    """The policy's weights as training scripts save them."""
    weights = DecisionTransformerModel.from_pretrained(PLAIN).state_dict()
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimiser.step()
    parallel = {f"module._orig_mod.{name}": tensor for name, tensor in weights.items()}
    parts = {
        "iteration": 7,
        "model_state_dict": parallel,
        "optimizer_state_dict": optimiser.state_dict(),
        "best": np.float64(3.0),
        "names": ["a", "b"],
    }
    for folder in ("checkpoint", "state-dict"):
        (ROOT / folder).mkdir()
        shutil.copy(PLAIN / "config.json", ROOT / folder)
    torch.save(parts, ROOT / "checkpoint" / "pytorch_model.bin")
    torch.save(weights, ROOT / "state-dict" / "policy.pt")


def datasets():
    observation = spaces.Dict(
        where=spaces.Tuple([spaces.Discrete(3, start=1), spaces.Box(-1, 1, (2, 2), np.float64)]),
        flags=spaces.MultiBinary(2),
        kinds=spaces.MultiDiscrete([2, 3]),
    )
    action = spaces.Discrete(3, start=1)
    observation.seed(1)
    action.seed(2)
    buffers, flat, actions = [], [], []
    for episode in range(2):
        shown = [observation.sample() for _ in range(5)]
        done = [action.sample() for _ in range(4)]
        flat += [spaces.flatten(observation, one) for one in shown]
        actions += [int(one) - 1 for one in done]
        infos = {"success": [False] * 4 + [episode == 0]}
        ends = [False, False, False, True]
        lists = {
            "where": ([one["where"][0] for one in shown], [one["where"][1] for one in shown]),
            "flags": [one["flags"] for one in shown],
            "kinds": [one["kinds"] for one in shown],
        }
        buffers.append(
            EpisodeBuffer(
                observations=lists, actions=done, rewards=[1.0, 2.0, 3.0, 4.0],
                terminations=ends, truncations=[False] * 4, infos=infos,
            )
        )  # fmt: skip
    minari.create_dataset_from_buffers(
        "foreign/spaces-v0", buffers, observation_space=observation, action_space=action,
        algorithm_name="random", author="eva-rl", author_email="", code_permalink="tools/golden/golden_foreign.py",
        description="",
    )  # fmt: skip
    expected = {
        "observations": torch.tensor(np.array(flat, np.float32)).reshape(2, 5, -1),
        "actions": torch.tensor(actions, dtype=torch.float32).reshape(2, 4),
    }
    save_file(expected, GOLDEN / "foreign" / "minari" / "spaces.safetensors")

    # As Minari wrote before 0.5: what metadata.json says are attributes of the HDF5 file. Flags are integers here,
    # and numbers are float16.
    metadata = json.loads((GOLDEN / "minari/cartpole/random-v0/data/metadata.json").read_text())
    folder = GOLDEN / "foreign" / "minari" / "old-v0" / "data"
    folder.mkdir(parents=True)
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        file.attrs.update({key: metadata[key] for key in ("observation_space", "action_space", "algorithm_name")})
        file.attrs["total_episodes"] = 2
        for episode in range(2):
            group = file.create_group(f"episode_{episode}")
            group["observations"] = np.arange(20, dtype=np.float16).reshape(5, 4) / 4
            group["actions"] = np.array([0, 1, 1, 0])
            group["rewards"] = np.array([1, 2, 3, 4], np.float16)
            group["terminations"] = np.array([0, 0, 0, 1], np.int64)
            group["truncations"] = np.zeros(4, np.float32)


def hard_links():
    """An episode that the file has once and names a hundred times, of zeros that deflate makes small."""
    folder = GOLDEN / "foreign" / "minari" / "hard-links-v0" / "data"
    folder.mkdir(parents=True)
    metadata = json.loads((GOLDEN / "minari/cartpole/random-v0/data/metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**metadata, "total_episodes": 100}) + "\n")
    steps, options = 400_000, {"compression": "gzip", "compression_opts": 9, "chunks": True}
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        group = file.create_group("episode_0")
        group.create_dataset("observations", data=np.zeros((steps + 1, 4)), **options)
        for name in ("actions", "rewards", "terminations", "truncations"):
            group.create_dataset(name, data=np.zeros(steps, np.int8), **options)
        for episode in range(1, 100):
            file[f"episode_{episode}"] = group


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    (GOLDEN / "foreign" / "minari").mkdir(parents=True)
    adapter("peft-look-ahead", target_modules=r".*\.h\.(?!1\b)\d+\.attn\.c_attn", rank_pattern={r"h\.(?=0)\d+.attn.c_attn": 2})
    adapter("peft-tables", target_modules=["c_attn", "embed_timestep", "embed_state"])
    adapter("peft-tables-dora", target_modules=["embed_timestep", "c_fc"], use_dora=True, rank_pattern={"embed_timestep": 2})
    checkpoints()
    datasets()
    hard_links()


if __name__ == "__main__":
    main()
