"""EVA for a policy of LeRobot: ACT, cloned from a scripted controller of Hopper-v5, adapted to what a policy of ours does.

    make lerobot

LeRobot hands its `--peft.init_type eva` to PEFT's config, and PEFT leaves A as LoRA draws it until it is shown the task's
data, which LeRobot does not do. Two lines do: the import of eva_rl below, and the call in `adapted`.
"""

import argparse
import json
import logging
from itertools import cycle, islice
from pathlib import Path

import h5py
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from torch import nn
from torch.utils.data import DataLoader

from eva_rl import initialize_lora_eva_weights

#: Without cameras ACT wants a robot's state and its environment's; a hopper's 5 positions and 6 velocities stand for them.
STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
POSITIONS = 5
FPS, CHUNK = 125, 10

#: As `--peft.…` gives it. The encoder of ACT's variational part runs in training alone and has no activations to show.
PEFT = {
    "method_type": "LORA",
    "init_type": "eva",
    "r": 4,
    "lora_alpha": 4,
    "target_modules": r".*model\.(encoder|decoder)\..*(self_attn|multihead_attn|linear1|linear2)",
}

#: States `[steps, 11]` and actions `[steps, 3]`.
Episode = tuple[torch.Tensor, torch.Tensor]


def read(minari: Path) -> list[Episode]:
    """The episodes of a dataset that `eva-rl collect` has written."""
    with h5py.File(minari / "data" / "main_data.hdf5") as file:
        episodes = [file[f"episode_{number}"] for number in range(len(file))]
        return [(torch.tensor(e["observations"][:-1]), torch.tensor(e["actions"][:])) for e in episodes]


def written(episodes: list[Episode], folder: Path) -> LeRobotDataset:
    """The same as a dataset of LeRobot's, whose items have the next ten actions."""
    states, actions = episodes[0]
    widths = {STATE: POSITIONS, ENVIRONMENT: states.shape[1] - POSITIONS, ACTION: actions.shape[1]}
    features = {name: {"dtype": "float32", "shape": (width,), "names": None} for name, width in widths.items()}
    dataset = LeRobotDataset.create(folder.name, FPS, features, root=folder, use_videos=False)
    for states, actions in episodes:
        for state, action in zip(states.float(), actions.float()):
            frame = {STATE: state[:POSITIONS], ENVIRONMENT: state[POSITIONS:], ACTION: action}
            dataset.add_frame({**frame, "task": "hop"})
        dataset.save_episode()
    dataset.finalize()
    return LeRobotDataset(folder.name, root=folder, delta_timestamps={ACTION: [i / FPS for i in range(CHUNK)]})


def batches(dataset: LeRobotDataset, preprocess, count: int, seed: int) -> list[dict]:
    """So many batches of 32, prepared as LeRobot does it."""
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(dataset, batch_size=32, shuffle=True, drop_last=True, generator=generator)
    return [preprocess(batch) for batch in islice(loader, count)]


def act(dataset: LeRobotDataset) -> ACTPolicy:
    """A small ACT for what the dataset holds."""
    kinds = {STATE: FeatureType.STATE, ENVIRONMENT: FeatureType.ENV, ACTION: FeatureType.ACTION}
    features = {name: PolicyFeature(kind, dataset.meta.features[name]["shape"]) for name, kind in kinds.items()}
    config = ACTConfig(
        output_features={ACTION: features.pop(ACTION)},
        input_features=features,
        chunk_size=CHUNK,
        n_action_steps=CHUNK,
        dim_model=64,
        n_heads=4,
        dim_feedforward=256,
        n_encoder_layers=2,
        n_vae_encoder_layers=2,
        device="cpu",
    )
    return ACTPolicy(config)


def train(policy: nn.Module, data: list[dict], updates: int, rate: float) -> None:
    """LeRobot's loss of ACT, by AdamW."""
    optimizer = torch.optim.AdamW([weight for weight in policy.parameters() if weight.requires_grad], lr=rate)
    policy.train()
    for batch in islice(cycle(data), updates):
        loss, _ = policy(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def error(policy: nn.Module, data: list[dict]) -> float:
    """The mean absolute error of normalised actions."""
    policy.eval()
    return sum(policy(batch)[1]["l1_loss"] for batch in data) / len(data)


def wrapped(policy: ACTPolicy) -> nn.Module:
    """The policy as `lerobot-train --peft.init_type eva` makes it."""
    return policy.wrap_with_peft(peft_cli_overrides=PEFT)


def adapted(policy: ACTPolicy, data: list[dict]) -> nn.Module:
    """The same, with EVA."""
    policy = wrapped(policy)
    initialize_lora_eva_weights(policy, data, forward_fn=lambda policy, batch: policy(batch), show_progress_bar=False)
    return policy


def share_of_orthonormal_downs(policy: nn.Module) -> float:
    """The share of the adapters whose A has orthonormal rows, which EVA's have and random ones have not."""
    downs = [weight for name, weight in policy.named_parameters() if "lora_A" in name]
    return sum(bool(torch.allclose(a @ a.T, torch.eye(len(a)), atol=1e-4)) for a in downs) / len(downs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="the dataset that ACT is cloned from")
    parser.add_argument("--target", type=Path, required=True, help="the dataset that it is adapted to")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for LeRobot's datasets and its policy")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    episodes = read(args.target)
    bound = len(episodes) * 4 // 5
    source = written(read(args.source), args.out / "source")
    target = written(episodes[:bound], args.out / "target")
    held_out = written(episodes[bound:], args.out / "held-out")
    torch.manual_seed(0)
    policy = act(source)
    preprocess, _ = make_pre_post_processors(policy.config, dataset_stats=source.meta.stats)
    train(policy, batches(source, preprocess, 100, seed=0), 300, 1e-3)
    policy.save_pretrained(args.out / "act")
    tests = batches(held_out, preprocess, 20, seed=0)
    found = {"before": {"error": error(policy, tests)}}
    data = batches(target, preprocess, 50, seed=0)
    for way, adapt in {"init_type eva alone": lambda policy, _: wrapped(policy), "with eva_rl": adapted}.items():
        errors = []
        for seed in range(3):
            torch.manual_seed(seed)
            policy = ACTPolicy.from_pretrained(args.out / "act")
            policy.config.pretrained_path = str(args.out / "act")
            policy = adapt(policy, data)
            orthonormal = share_of_orthonormal_downs(policy)
            train(policy, data, 50, 1e-3)
            errors.append(error(policy, tests))
        found[way] = {"adapters whose A is orthonormal": orthonormal, "error after 50 updates, three seeds": errors}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
