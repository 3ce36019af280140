"""Fine-tunes a pretrained model by every method, learning rate and seed, and keeps one line a run.

    python examples/python/study.py digits news tales --workers 2

A run that has its line in examples/python/results is not run again, so the study can be stopped and gone on with. Runs are
in the order of their seeds: what is there at any time has every method at every rate. `tables.py` says what came out.
"""

import argparse
import importlib
import itertools
import json
import multiprocessing
import warnings
from pathlib import Path

import peft
import torch
import transformers
from domain import Batch, Domain
from torch import nn

from eva_rl import initialize_lora_eva_weights

RESULTS = Path(__file__).parent / "results"
SEEDS = range(5)

#: What each method sets of LoraConfig; every one has lora_alpha = r.
METHODS = {
    "full": None,
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "PiSSA": {"init_lora_weights": "pissa_niter_16"},
    "OLoRA": {"init_lora_weights": "olora"},
    "EVA": {"init_lora_weights": "eva"},
    "EVA + DoRA": {"init_lora_weights": "eva", "use_dora": True},
}


def adapted(domain: Domain, method: str, model: nn.Module, batches: list[Batch]) -> nn.Module:
    """The model with adapters of a method, or itself, to be trained whole."""
    settings = METHODS[method]
    if settings is None:
        return model
    config = peft.LoraConfig(
        r=domain.rank,
        lora_alpha=domain.rank,
        target_modules=domain.target_modules,
        modules_to_save=domain.modules_to_save,
        **settings,
    )
    model = peft.get_peft_model(model, config)
    if config.init_lora_weights == "eva":
        initialize_lora_eva_weights(model, batches, show_progress_bar=False)
    return model


def train(model: nn.Module, batches: list[Batch], rate: float) -> float:
    """AdamW over the batches, with a warm-up of a tenth of the updates and a linear end; the last loss."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, len(batches) // 10, len(batches))
    model.train()
    for batch in batches:
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    return float(loss)


def run(cell: tuple[str, str, float, int]) -> dict:
    """One run: what it was and what came out."""
    name, method, rate, seed = cell
    domain = importlib.import_module(name).DOMAIN
    batches = domain.batches(seed)
    model = domain.model(seed).eval()
    model = adapted(domain, method, model, batches)
    loss = train(model, batches, rate)
    return {
        "domain": name,
        "method": method,
        "rate": rate,
        "seed": seed,
        "result": domain.evaluate(model),
        "last_loss": loss,
        "trained_parameters": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
    }


def quietly() -> None:
    """A worker's thread and what it does not print."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.utils.logging.disable_progress_bar()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "domains", nargs="+", choices=("digits", "news", "tales"), metavar="DOMAIN", help="digits, news, tales"
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, each on one thread")
    args = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    for name in args.domains:
        path = RESULTS / f"{name}.jsonl"
        done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        done = {(line["method"], line["rate"], line["seed"]) for line in done}
        domain = importlib.import_module(name).DOMAIN
        domain.model(0)  # what is downloaded and pretrained once
        cells = [
            (name, method, rate, seed)
            for seed, method, rate in itertools.product(SEEDS, METHODS, domain.rates)
            if (method, rate, seed) not in done
        ]
        print(f"{name}: {len(done)} runs are done, {len(cells)} are left", flush=True)
        with multiprocessing.get_context("spawn").Pool(args.workers, quietly) as pool, path.open("a") as file:
            for found in pool.imap_unordered(run, cells):
                file.write(json.dumps(found) + "\n")
                file.flush()
                print(
                    f"{name}: {found['method']} at {found['rate']:g}, seed {found['seed']}: {found['result']:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
