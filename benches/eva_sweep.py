"""What EVA's initialisation costs as batches, sites and widths grow, and what the solvers lose: Markdown on stdout.

    python benches/eva_sweep.py --binary target/release/eva-rl > docs/eva-cost.md
"""

import argparse
import tempfile
from pathlib import Path

from peers import BATCHES, WINDOWS, closeness, exact_spectra, make_policy, own_eva, random_batches
from safetensors.torch import save_file

WHOLE = ["--tau", "1"]  # all batches that are asked for are seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/eva-rl")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    inputs = random_batches()
    cut = [{key: value[i * WINDOWS : (i + 1) * WINDOWS] for key, value in inputs.items()} for i in range(BATCHES)]

    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "inputs.safetensors")
        save_file(inputs, file)

        def measure(policy, rank, *arguments):
            figures, found = own_eva(args.binary, policy, file, rank, [*WHOLE, "--repeats", str(args.repeats), *arguments])
            return figures["eva_secs"], figures["ratio"], found

        print("# What EVA's initialisation costs\n")
        print(f"Made by `python benches/eva_sweep.py`: batches of {WINDOWS} windows, K = 20, 2 threads, medians of "
              f"{args.repeats}. Forwards are the same passes without EVA.\n")  # fmt: skip

        print("## Batches\n\n3 x 128, rank 8. The cost is linear in batches.\n")
        print("| batches | seconds | seconds per batch | / forwards |\n|---|---|---|---|")
        policy = str(Path(folder) / "batches")
        make_policy(policy)
        for batches in [5, 10, 20, 40]:
            secs, ratio, _ = measure(policy, 8, "--max-batches", str(batches))
            print(f"| {batches} | {secs:.2f} | {secs / batches:.4f} | {ratio:.2f} |", flush=True)

        print("\n## Modules\n\n128 wide, rank 8, 10 batches; a block has four modules. The cost is linear in modules.\n")
        print("| modules | seconds | seconds per module | / forwards |\n|---|---|---|---|")
        for layers in [1, 2, 4, 8]:
            policy = str(Path(folder) / f"sites{layers}")
            make_policy(policy, layers, 128)
            secs, ratio, _ = measure(policy, 8, "--max-batches", "10")
            print(f"| {4 * layers} | {secs:.2f} | {secs / (4 * layers):.4f} | {ratio:.2f} |", flush=True)

        print("\n## Solvers\n\nTwo layers, rank 8, all 40 batches; the widest module is four times the policy's width. "
              "Angles are to the exact components of all rows (float64), over all modules: the mean of each module's root "
              "mean square, and of its largest.\nUnder `auto` ranks are allocated over modules whose explained variance ratios "
              "come from different solvers, and the sketch's eigenvalues are slightly low; `--solver gram` compares like "
              "with like.\n")  # fmt: skip
        print("| width | solver | seconds | / forwards | angle | largest |\n|---|---|---|---|---|---|")
        for width in [64, 128, 256]:
            policy = str(Path(folder) / f"width{width}")
            spectra = exact_spectra(make_policy(policy, 2, width), cut)
            for solver in ["gram", "sketch", "auto", "incremental"]:
                rule = ["--stop", "component_cosine", "--max-batches", str(BATCHES)] if solver == "incremental" else []
                secs, ratio, found = measure(policy, 8, "--solver", solver, *rule)
                rms, largest, _ = closeness(found, spectra)
                print(f"| {width} | {solver} | {secs:.2f} | {ratio:.2f} | {rms:.2f}° | {largest:.1f}° |", flush=True)

        print("\n`auto` takes `gram` where a module's width is at most nine times the sketch's columns, because there one product "
              "gives the exact components for little more than the sketch costs, and `sketch` where it is wider. These random "
              "windows are hard for the sketch, because their spectrum falls slowly.")  # fmt: skip


if __name__ == "__main__":
    main()
