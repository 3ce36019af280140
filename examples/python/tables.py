"""The study's tables, in Markdown, from the lines that `study.py` keeps: `python examples/python/tables.py`.

For every seed a method's rate is the one that does best in the mean over the other seeds. Intervals are 95% ones of the mean
over seeds, by Student's t; differences are taken seed by seed.
"""

import importlib
import json
from statistics import mean, stdev

from domain import Domain
from study import METHODS, RESULTS

#: Of Student's t for 95%, by degrees of freedom.
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}

#: By rate, then by seed.
Results = dict[float, dict[int, float]]


def interval(numbers: list[float]) -> str:
    """Their mean, and half the width of its interval."""
    half = QUANTILES[len(numbers) - 1] * stdev(numbers) / len(numbers) ** 0.5
    return f"{mean(numbers):.2f} ± {half:.2f}"


def chosen(results: Results, domain: Domain) -> dict[int, tuple[float, float]]:
    """Of every seed the rate that the others choose, and what it gives."""
    best = max if domain.higher_is_better else min
    found = {}
    for seed in next(iter(results.values())):
        rate = best(results, key=lambda rate: mean(x for other, x in results[rate].items() if other != seed))
        found[seed] = (rate, results[rate][seed])
    return found


def table(domain: Domain, lines: list[dict]) -> str:
    """One domain's, over the seeds that every method and rate has."""
    cells = {(line["method"], line["rate"], line["seed"]): line for line in lines}
    wanted = [(method, rate) for method in METHODS for rate in domain.rates]
    seeds = [seed for seed in range(5) if all((*cell, seed) in cells for cell in wanted)]
    if len(seeds) < 2:
        return f"### {domain.title}\n\nNot run yet."
    best = max if domain.higher_is_better else min
    rows, lora = [], {}
    for method in ["LoRA", *(method for method in METHODS if method != "LoRA")]:
        results = {rate: {seed: cells[method, rate, seed]["result"] for seed in seeds} for rate in domain.rates}
        picked = chosen(results, domain)
        lora = lora or picked
        means = {rate: mean(results[rate].values()) for rate in domain.rates}
        mine = [cells[method, rate, seed] for seed, (rate, _) in picked.items()]
        rates = ", ".join(f"{rate:g}" for rate in sorted({rate for rate, _ in picked.values()}))
        gain = "" if picked is lora else interval([picked[seed][1] - lora[seed][1] for seed in seeds])
        each = [f"**{x:.2f}**" if x == best(means.values()) else f"{x:.2f}" for x in means.values()]
        trained = f"{mine[0]['trained_parameters']:,}"
        rows.append([method, trained, interval([x for _, x in picked.values()]), rates, gain, *each])
    head = ["method", "trained parameters", domain.metric, "at rate", "minus LoRA"]
    head += [f"{rate:g}" for rate in domain.rates]
    text = [f"### {domain.title}\n\n{len(seeds)} seeds; the last columns are the means at each rate.\n"]
    for row in [head, ["---"] * len(head), *rows]:
        text.append("| " + " | ".join(row) + " |")
    return "\n".join(text)


def main():
    for name in ("digits", "news", "tales"):
        path = RESULTS / f"{name}.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        print(table(importlib.import_module(name).DOMAIN, lines) + "\n")


if __name__ == "__main__":
    main()
