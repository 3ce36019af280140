"""Collect demonstrations of Meta-World's tasks by its scripted experts, and print what they achieve as a table.

A task's dataset is not collected again where it is there. MT40 is for pretraining, CW10 (Continual World's
ten, Wolczyk et al. 2021) for fine-tuning, MT50 is both.

    .bridge/bin/python tools/data/metaworld_data.py --binary target/release/eva-rl --suite mt40 --episodes 40
"""

import argparse
import contextlib
import pathlib
import re
import subprocess
import sys

CW10 = [
    "Hammer",
    "PushWall",
    "FaucetClose",
    "PushBack",
    "StickPull",
    "HandlePressSide",
    "Push",
    "ShelfPlace",
    "WindowClose",
    "PegUnplugSide",
]
KWARGS = ["--env-kwarg", "partially_observable=false", "--env-kwarg", "max_episode_steps=200"]
COLLECTED = re.compile(r"return (-?[\d.]+) ± ([\d.]+) .* success (\d+)%")


def tasks(suite):
    with contextlib.redirect_stdout(sys.stderr):  # EnvPool says what it could not import
        import envpool
    known = [re.fullmatch(r"MetaWorld/(.*)-v3", task) for task in sorted(envpool.list_all_envs())]
    names = [match[1] for match in known if match]
    return {"mt50": names, "mt40": [name for name in names if name not in CW10], "cw10": CW10}[suite]


def collect(args, task):
    """Collects a task's dataset, or finds it; what `collect` said of it is kept within it."""
    folder = args.out / task
    said = folder / "collected.txt"
    if not said.exists():
        sizes = ["--episodes", str(args.episodes), "--num-envs", str(min(args.episodes, 40))]
        command = [args.binary, "collect", "--env", f"envpool:MetaWorld/{task}-v3", *KWARGS, *sizes]
        command += ["--policy", "scripted", "--noise", args.noise, "--seed", str(args.seed), "--out", folder]
        line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        said.write_text(line)
    return COLLECTED.search(said.read_text()).groups()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/eva-rl")
    parser.add_argument("--suite", choices=["mt50", "mt40", "cw10"], required=True)
    parser.add_argument("--episodes", type=int, required=True, help="of each task")
    parser.add_argument("--noise", default="0,0.1,0.3", help="of the actions; episodes take them in turn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default="datasets/metaworld")
    args = parser.parse_args()
    print("| task | episodes | return: mean | deviation | success |\n|---|---|---|---|---|")
    successes = []
    for task in tasks(args.suite):
        mean, deviation, success = collect(args, task)
        successes.append(int(success))
        print(f"| {task} | {args.episodes} | {mean} | {deviation} | {success}% |", flush=True)
    print(f"\nMean success over {len(successes)} tasks: {sum(successes) / len(successes):.0f}%.")


if __name__ == "__main__":
    main()
