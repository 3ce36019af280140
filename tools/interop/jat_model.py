"""JAT over vectors in PyTorch: transformers' GPT-Neo with the layers and names of the published policy.

Restated from the facts of its forward pass and of its acting: observations with the reward before them, and actions,
repeat until they fill one layer; the action is read at the observation's token.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import DynamicCache, GPTNeoConfig, GPTNeoModel

CONTEXT_TOKENS = 256


def cyclic(numbers, width):
    """`[…, n]` repeated to `[…, width]`."""
    return numbers[..., torch.arange(width) % numbers.shape[-1]]


class Jat(nn.Module):
    """Observations and actions that are vectors."""

    def __init__(self, config):
        super().__init__()
        keys = ["max_position_embeddings", "hidden_size", "num_layers", "attention_types", "num_heads", "window_size"]
        keys += ["vocab_size", "intermediate_size", "activation_function", "layer_norm_epsilon"]
        self.transformer = GPTNeoModel(GPTNeoConfig(**{key: config[key] for key in keys}, use_cache=False))
        self.width = config["max_continuous_size"]
        self.continuous_encoder = nn.Linear(self.width, config["hidden_size"])
        self.continuous_decoder = nn.Linear(config["hidden_size"], self.width)
        # What PEFT asks of a model; it is nothing else here.
        self.config = self.transformer.config

    @classmethod
    def read(cls, folder):
        """The policy of a folder, its other layers left out."""
        model = cls(json.loads((Path(folder) / "config.json").read_text())).eval()
        tensors = load_file(Path(folder) / "model.safetensors")
        own = set(model.state_dict())
        missing, _ = model.load_state_dict({name: x for name, x in tensors.items() if name in own}, strict=False)
        assert not missing, missing
        return model

    def forward(self, states, actions, previous_rewards):
        """Action predictions `[B, T, A]` of `states [B, T, S]`, `actions [B, T, A]`, `previous_rewards [B, T, 1]`."""
        seen = cyclic(torch.cat([states, previous_rewards], -1), self.width)
        done = cyclic(actions, self.width)
        tokens = self.continuous_encoder(torch.stack([seen, done], 2)).flatten(1, 2)  # o0 a0 o1 a1 …
        hidden = self.transformer(inputs_embeds=tokens).last_hidden_state
        return self.continuous_decoder(hidden[:, ::2])[..., : actions.shape[-1]]


class Acting:
    """`get_next_action`, one environment's: the step before is read again beside the last 256 cached tokens."""

    def __init__(self, model, action_width):
        self.model, self.action_width = model, action_width
        self.cache, self.before = DynamicCache(), None

    @torch.no_grad()
    def act(self, state, previous_reward):
        """The action `[A]` for an observation `[S]` and the reward before it."""
        model = self.model
        seen = cyclic(torch.cat([state, torch.tensor([previous_reward])]), model.width)
        new = [seen, torch.zeros(model.width)] if self.before is None else [*self.before, seen, torch.zeros(model.width)]
        cached = self.cache.get_seq_length()
        tokens = model.continuous_encoder(torch.stack(new))[None]
        places = cached + torch.arange(len(new))[None]
        out = model.transformer(inputs_embeds=tokens, position_ids=places, past_key_values=self.cache, use_cache=True)
        action = model.continuous_decoder(out.last_hidden_state[0, -2])[: self.action_width]
        for layer in self.cache.layers:
            layer.keys = layer.keys[:, :, :-2][:, :, -CONTEXT_TOKENS:]
            layer.values = layer.values[:, :, :-2][:, :, -CONTEXT_TOKENS:]
        self.before = [seen, cyclic(action, model.width)]
        return action
