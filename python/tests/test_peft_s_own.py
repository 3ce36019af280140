"""PEFT's own tests of EVA, run with our two functions in place of PEFT's.

They are read from PEFT's source archive, which pip fetches, and are not part of this repository. Their fixtures download
GPT-2 and quotes; here stand a GPT-2 of two small layers with random weights, and random sentences. What needs bitsandbytes
is skipped.
"""

import ast
import itertools
import subprocess
import sys
import tarfile
from collections import defaultdict
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import torch
import transformers
from models import decaying
from peft.tuners.lora import LoraLayer
from torch.utils.data import DataLoader

import eva_rl

CACHE = Path(__file__).parents[1] / "target" / "peft-source"


class Sentences(list):
    """As much of a Hugging Face dataset as the tests use."""

    def shuffle(self, seed):
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return Sentences(self[place] for place in order.tolist())

    def map(self, change):
        return Sentences({**example, **change(example)} for example in self)

    def set_format(self, type):
        assert type == "torch"

    @staticmethod
    def from_dict(columns):
        return Sentences({"text": text} for text in columns["text"])


def source(file):
    """A file of PEFT's tests, of the version that is installed."""
    archive = CACHE / f"peft-{version('peft')}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "peft"]
        done = subprocess.run(
            [*command, "--dest", str(CACHE), f"peft=={version('peft')}"], capture_output=True, text=True
        )
        if done.returncode != 0:
            pytest.skip(
                f"pip cannot fetch PEFT's source: {done.stderr.strip().splitlines()[-1]}", allow_module_level=True
            )
    with tarfile.open(archive) as tar:
        return tar.extractfile(f"peft-{version('peft')}/tests/{file}").read().decode()


def class_of(file, name):
    """One class of it, with our functions under PEFT's names."""
    tree = ast.parse(source(file))
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    found.decorator_list = []  # those that want a GPU
    names = {
        **{name: getattr(peft, name) for name in ["EvaConfig", "LoraConfig", "PeftModel", "get_peft_model"]},
        "get_eva_state_dict": eva_rl.get_eva_state_dict,
        "initialize_lora_eva_weights": eva_rl.initialize_lora_eva_weights,
        "LoraLayer": LoraLayer,
        "Dataset": Sentences,
        "DataLoader": DataLoader,
        "infer_device": lambda: "cpu",
        "require_bitsandbytes": lambda test: test,
        **{module.__name__: module for module in (torch, pytest, itertools)},
        "deepcopy": deepcopy,
        "defaultdict": defaultdict,
    }
    exec(compile(ast.Module([found], []), f"{file} of PEFT", "exec"), names)
    return names[name]


Configs = class_of("test_initialization.py", "TestEvaInitialization")
Searches = class_of("test_gpu_examples.py", "TestEvaInitializationGPU")


class TestConfigs(Configs):
    pass


class TestSearches(Searches):
    @pytest.fixture
    def dataset(self):
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(0, 200, (48, 128), generator=generator)
        lengths = torch.randint(64, 129, (48, 1), generator=generator)
        masks = (torch.arange(128) < lengths).long()
        return Sentences({"input_ids": ids, "attention_mask": mask} for ids, mask in zip(tokens, masks))

    @pytest.fixture
    def model(self):
        config = transformers.GPT2Config(vocab_size=200, n_positions=128, n_embd=64, n_layer=2, n_head=2)
        return decaying(transformers.GPT2LMHeadModel(config))

    @pytest.fixture
    def model_bnb(self):
        pytest.skip("needs bitsandbytes and a GPU")


def test_which_of_peft_s_tests_run():
    tests = SimpleNamespace(
        configs=[name for name in dir(Configs) if name.startswith("test_")],
        searches=[name for name in dir(Searches) if name.startswith("test_")],
    )
    assert tests.configs == [
        "test_eva_config_rho",
        "test_eva_config_tau",
        "test_lora_config_raises_warning_with_eva_config_but_not_eva_init",
        "test_lora_config_raises_warning_with_eva_init_but_not_eva_config",
    ]
    assert tests.searches == [
        "test_eva_initialization_consistency",
        "test_eva_initialization_with_invalid_dataloader",
        "test_eva_label_mask",
        "test_eva_state_dict_adjust_scaling_factors",
        "test_eva_state_dict_prepare_inputs_mapping",
        "test_load_eva_model",
        "test_load_eva_state_dict",
        "test_missing_eva_inits",
    ]
