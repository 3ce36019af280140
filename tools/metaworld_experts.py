"""Print how often Meta-World's experts succeed in each of its fifty tasks, and in the mean.

Run it with the Python of `make bridge`: python tools/metaworld_experts.py --binary target/release/eva-rl
"""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile

OPTIONS = {"--env-kwarg": ["partially_observable=false", "max_episode_steps=200"], "--policy": ["scripted"]}


def tasks():
    with contextlib.redirect_stdout(sys.stderr):  # EnvPool says what it could not import
        import envpool
    return sorted(task for task in envpool.list_all_envs() if re.fullmatch(r"MetaWorld/.*-v3", task))


def success(binary, task, episodes):
    """Share of the episodes that succeed, in percent."""
    options = [word for name, values in OPTIONS.items() for value in values for word in (name, value)]
    sizes = ["--episodes", str(episodes), "--num-envs", str(episodes)]
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "collect", "--env", f"envpool:{task}", *options, *sizes, "--out", f"{folder}/data"]
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(re.search(r"success (\d+)%", line)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/eva-rl")
    parser.add_argument("--episodes", type=int, default=8)
    args = parser.parse_args()
    found = {}
    for task in tasks():
        found[task] = success(args.binary, task, args.episodes)
        print(f"{task:40} {found[task]:3}%", flush=True)
    print(f"{len(found)} tasks, {args.episodes} episodes each: {sum(found.values()) / len(found):.0f}% succeed")


if __name__ == "__main__":
    main()
