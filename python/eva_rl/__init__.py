"""EVA, explained variance adaptation (arXiv 2410.07170), for PyTorch models.

A drop-in for the two functions of PEFT's EVA:

    from eva_rl import initialize_lora_eva_weights  # instead of: from peft import …

    model = get_peft_model(base, LoraConfig(init_lora_weights="eva", …))
    table = initialize_lora_eva_weights(model, dataloader)
"""

import torch  # before the extension, which finds libtorch through it

TORCH = "2.11.0"

if torch.__version__.partition("+")[0] != TORCH:
    raise ImportError(f"PyTorch is {torch.__version__}, expected {TORCH}, which eva_rl is built with")

from eva_rl.initialise import get_eva_state_dict, get_peft_model, initialize_lora_eva_weights
from eva_rl.rows import (
    forward_fn_dict,
    prepare_layer_inputs_fn_language_modeling,
    prepare_model_inputs_fn_language_modeling,
)
from eva_rl.table import EvaStateDict, ModuleRank, RankTable

__all__ = [
    "EvaStateDict",
    "ModuleRank",
    "RankTable",
    "forward_fn_dict",
    "get_eva_state_dict",
    "get_peft_model",
    "initialize_lora_eva_weights",
    "prepare_layer_inputs_fn_language_modeling",
    "prepare_model_inputs_fn_language_modeling",
]
