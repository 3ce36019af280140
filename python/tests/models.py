"""Tiny models of five kinds with random weights, their batches, and the exact directions of what their modules are given."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers
from peft import EvaConfig, LoraConfig
from torch import nn
from transformers.pytorch_utils import Conv1D

WIDTH = 32


@dataclass
class Case:
    name: str
    model: nn.Module
    batches: list[dict[str, torch.Tensor]]
    targets: list[str]
    #: Whether PEFT's default functions fit the inputs, which are tokens with a mask.
    is_language: bool = False
    rank: int = 4

    def config(self, rank: int | None = None, **eva) -> LoraConfig:
        rank = rank or self.rank
        return LoraConfig(r=rank, target_modules=self.targets, init_lora_weights="eva", eva_config=EvaConfig(**eva))

    def functions(self) -> dict:
        """The functions that PEFT must be given."""
        return {} if self.is_language else {"prepare_model_inputs_fn": None, "prepare_layer_inputs_fn": None}


def decaying(model: nn.Module) -> nn.Module:
    """The same with embeddings whose numbers fall, so that directions differ in variance."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.weight *= 3 * 0.8 ** torch.arange(module.weight.shape[1])
    return model.eval()


def tokens(batches: int = 12, size: int = 8, length: int = 24) -> list[dict[str, torch.Tensor]]:
    """Sentences of several lengths, padded behind."""
    made = []
    for _ in range(batches):
        mask = (torch.arange(length) < torch.randint(length // 2, length + 1, (size, 1))).long()
        made.append({"input_ids": torch.randint(0, 100, (size, length)), "attention_mask": mask})
    return made


def decision_transformer() -> Case:
    sizes = {"hidden_size": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 64, "max_ep_len": 50}
    config = transformers.DecisionTransformerConfig(state_dim=5, act_dim=2, **sizes)
    model = decaying(transformers.DecisionTransformerModel(config))
    batches = []
    for _ in range(12):
        batches.append({
            "states": torch.randn(16, 10, 5),
            "actions": torch.randn(16, 10, 2),
            "returns_to_go": torch.randn(16, 10, 1),
            "timesteps": torch.randint(0, 40, (16, 1)) + torch.arange(10),
            "attention_mask": torch.ones(16, 10, dtype=torch.long),
        })  # fmt: skip
    return Case("decision transformer", model, batches, ["c_attn", "c_proj", "c_fc"])


def bert() -> Case:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = decaying(transformers.BertModel(transformers.BertConfig(vocab_size=100, **sizes), add_pooling_layer=False))
    return Case("BERT", model, tokens(), ["query", "key", "value", "dense"], is_language=True)


def llama() -> Case:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = decaying(transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=100, **sizes)))
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return Case("Llama", model, tokens(), targets, is_language=True)


def vit() -> Case:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = transformers.ViTModel(transformers.ViTConfig(image_size=16, patch_size=4, **sizes), add_pooling_layer=False)
    batches = [{"pixel_values": torch.randn(8, 3, 16, 16).cumsum(-1).cumsum(-2)} for _ in range(12)]
    return Case("ViT", model.eval(), batches, ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"])


class ConvNet(nn.Module):
    """Two convolutions with strides and padding, and a linear map."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 8, (3, 2))
        self.head = nn.Linear(8 * 6 * 7, 4)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu().flatten(1))


def conv_net() -> Case:
    batches = [{"x": torch.randn(40, 3, 16, 16).cumsum(-1).cumsum(-2)} for _ in range(12)]
    return Case("convolutional net", ConvNet().eval(), batches, ["first", "second", "head"])


CASES: dict[str, Callable[[], Case]] = {
    "decision_transformer": decision_transformer,
    "bert": bert,
    "llama": llama,
    "vit": vit,
}


def is_target(name: str, targets: list[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def rows_of(module: nn.Module, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if isinstance(module, nn.Conv2d):
        patches = nn.functional.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)
        return patches.transpose(1, 2).flatten(0, 1)
    return x[mask.bool()] if mask is not None else x.flatten(0, -2)


@torch.no_grad()
def exact_directions(case: Case, batches: list | None = None) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Share of variance and direction of every component of all rows, by the eigenvectors of their covariance, with hooks
    of this test's own."""
    rows: dict[str, list[torch.Tensor]] = {}
    handles, mask = [], None

    def keep(name):
        def hook(module, args):
            rows.setdefault(name, []).append(rows_of(module, args[0], mask).double())

        return hook

    for name, module in case.model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D, nn.Conv2d)) and is_target(name, case.targets):
            handles.append(module.register_forward_pre_hook(keep(name)))
    for batch in case.batches if batches is None else batches:
        mask = batch.get("attention_mask") if case.is_language else None
        case.model(**batch)
    for handle in handles:
        handle.remove()
    found = {}
    for name, parts in rows.items():
        x = torch.cat(parts)
        _, sigma, directions = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        found[name] = (sigma**2 / (sigma**2).sum(), directions)
    return found


def squared_sine(down: torch.Tensor, directions: torch.Tensor) -> float:
    """Mean squared sine of the principal angles between A's rows, which are orthonormal, and as many exact directions."""
    down = down.flatten(1).double()
    if len(down) == 0:
        return 0.0
    return max(0.0, 1 - float((down @ directions[: len(down)].T).square().sum()) / len(down))


def rms_sine(components: dict[str, torch.Tensor], exact: dict) -> float:
    return (sum(squared_sine(components[name], exact[name][1]) for name in exact) / len(exact)) ** 0.5


def budget_ranks(exact: dict, rank: int, rho: float) -> dict[str, int]:
    """PEFT's rule on the exact shares."""
    most = round(rank * rho)
    shares = [(float(share), name) for name, (ratios, _) in exact.items() for share in ratios[:most]]
    shares.sort(key=lambda pair: -pair[0])
    given = [name for _, name in shares[: rank * len(exact)]]
    return {name: given.count(name) for name in exact}


class Counted:
    """A `forward_fn` that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, model, inputs):
        self.calls += 1
        return model(**inputs)
