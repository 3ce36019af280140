"""LeRobot's `--peft.init_type eva` leaves A random, and the call of ours after it makes it EVA.

Where LeRobot is installed (`make lerobot`) this is its own policy and its own way to PEFT. Elsewhere what it does is
restated: LeRobot 0.6.1's `PreTrainedPolicy.wrap_with_peft` hands `init_type` to `LoraConfig` as `init_lora_weights`, and
calls `get_peft_model`.
"""

import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from eva_rl import initialize_lora_eva_weights

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"


def have_orthonormal_rows(model: nn.Module) -> list[bool]:
    downs = [weight for name, weight in model.named_parameters() if "lora_A" in name]
    return [bool(torch.allclose(a @ a.T, torch.eye(len(a)), atol=1e-4)) for a in downs]


class Policy(nn.Module):
    """What LeRobot's policies have in common: a batch is one argument, and the loss comes first."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, batch):
        loss = (self.head(self.encoder(batch["observation.state"])) - batch["action"]).abs().mean()
        return loss, {"l1_loss": loss.item()}


def test_init_type_alone_is_lora_and_the_call_makes_it_eva():
    torch.manual_seed(0)
    scales = 0.8 ** torch.arange(16)
    data = [{"observation.state": torch.randn(32, 10, 16) * scales, "action": torch.randn(32, 10, 3)} for _ in range(8)]
    config = LoraConfig(r=4, target_modules=["self_attn", "linear1", "linear2"], init_lora_weights="eva")
    policy = get_peft_model(Policy(), config)
    assert not any(have_orthonormal_rows(policy))
    table = initialize_lora_eva_weights(
        policy, data, forward_fn=lambda policy, batch: policy(batch), show_progress_bar=False
    )
    assert sum(module.rank for module in table.modules) == 4 * len(table.modules)
    assert all(have_orthonormal_rows(policy))
    loss, _ = policy(data[0])
    loss.backward()


def test_lerobot_s_own_act(tmp_path):
    pytest.importorskip("lerobot", reason="LeRobot is not installed: `make lerobot` runs this with it")
    sys.path.insert(0, str(EXAMPLES))
    import lerobot_act
    from lerobot.policies.factory import make_pre_post_processors

    dataset = lerobot_act.written(episodes(), tmp_path / "data")

    def act():
        torch.manual_seed(0)
        policy = lerobot_act.act(dataset)
        policy.config.pretrained_path = str(tmp_path)  # LeRobot wraps pretrained policies alone
        return policy

    preprocess, _ = make_pre_post_processors(act().config, dataset_stats=dataset.meta.stats)
    data = lerobot_act.batches(dataset, preprocess, 8, seed=0)
    assert lerobot_act.share_of_orthonormal_downs(lerobot_act.wrapped(act())) == 0.0
    policy = lerobot_act.adapted(act(), data)
    assert lerobot_act.share_of_orthonormal_downs(policy) == 1.0
    before = lerobot_act.error(policy, data)
    lerobot_act.train(policy, data, 40, 3e-3)
    assert lerobot_act.error(policy, data) < before


def episodes() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Two, whose actions follow from their states."""
    mixes = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    states = torch.randn(2, 200, 11, generator=torch.Generator().manual_seed(1)) * 0.8 ** torch.arange(11)
    return [(state, (state @ mixes).tanh()) for state in states]
