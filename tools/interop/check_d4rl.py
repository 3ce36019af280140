"""Check that what `eva-rl convert` makes of D4RL's files is what they hold, as Python's minari reads it.

Files are written by h5py in each form that D4RL's have, of Gymnasium's Pendulum; each is converted, compared step by
step, inspected, and trained on. Needs minari[hdf5] and gymnasium. From the repository's root:
    python tools/interop/check_d4rl.py --binary target/release/eva-rl
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gymnasium
import h5py
import minari
import numpy as np

FAILED = []


def check(name, holds, found=""):
    print(f"{'ok' if holds else 'FAILED':6} {name} {found}")
    if not holds:
        FAILED.append(name)


def play(episodes, steps):
    """Random episodes as D4RL lays them out: all steps one after another. The last one is unfinished."""
    env = gymnasium.make("Pendulum-v1", max_episode_steps=steps)
    env.action_space.seed(0)
    rows = {key: [] for key in ("observations", "next_observations", "actions", "rewards", "terminals", "timeouts")}
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        for step in range(steps if episode < episodes - 1 else steps // 2):
            action = env.action_space.sample()
            following, reward, _, truncated, _ = env.step(action)
            # Episode 1 is said to have terminated, which Pendulum never does.
            terminal = episode == 1 and step == steps - 1
            for key, value in zip(rows, (observation, following, action, reward, terminal, truncated and not terminal)):
                rows[key].append(value)
            observation = following
    kinds = {"terminals": bool, "timeouts": bool}
    rows = {key: np.asarray(value, kinds.get(key, np.float32)) for key, value in rows.items()}
    rows["infos/success"] = np.arange(len(rows["rewards"])) == steps // 2  # in the first episode
    return rows


def expected(rows, following):
    """Episodes by D4RL's flags, and which of their rows are kept."""
    start = 0
    for row, ends in enumerate((rows["terminals"] != 0) | (rows["timeouts"] != 0)):
        if not ends and row + 1 < len(rows["rewards"]):
            continue
        span, terminal = slice(start, row + 1), bool(rows["terminals"][row])
        observations = rows["observations"][span]
        if following:
            observations = np.concatenate([observations, rows["next_observations"][row : row + 1]])
        elif terminal:
            observations = np.concatenate([observations, observations[-1:]])
        steps = len(observations) - 1
        kept = [rows[key][span][:steps] for key in ("actions", "rewards", "infos/success")]
        yield observations, *kept, terminal
        start = row + 1


def check_file(binary, folder, name, rows, following, **options):
    path, out = folder / f"{name}.hdf5", folder / f"{name}-v0"
    with h5py.File(path, "w") as file:
        for key, value in rows.items():
            file.create_dataset(key, data=value, **options)
        file["metadata/algorithm"] = "random"
    ran = subprocess.run(
        [binary, "convert", path, "--out", out, "--env", "Pendulum-v1", "--json"], check=True, capture_output=True
    )
    said = json.loads(ran.stdout)
    dataset = minari.MinariDataset(out / "data")
    found, wanted = list(dataset.iterate_episodes()), list(expected(rows, following))
    check(f"{name}: minari finds the episodes", len(found) == len(wanted) == said["episodes"], len(found))
    for episode, (observations, actions, rewards, success, terminal) in zip(found, wanted):
        same = [
            np.array_equal(episode.observations, observations),
            np.array_equal(episode.actions, actions),
            np.allclose(episode.rewards, rewards),
            bool(episode.terminations[-1]) == terminal and bool(episode.truncations[-1]) != terminal,
            bool(np.any(episode.infos["success"])) == bool(np.any(success)),
        ]
        check(f"{name}: an episode of {len(rewards)} steps is the file's", all(same), "" if all(same) else same)
    check(f"{name}: minari recovers Pendulum-v1", dataset.recover_environment().spec.id == "Pendulum-v1")
    check(f"{name}: the steps are as many as was said", dataset.total_steps == said["steps"], said["steps"])
    return out


def check_training(binary, folder, dataset):
    """`inspect`, `init` and `train` take it."""
    config = folder / "config.toml"
    init = [binary, "init", "--data", dataset, "--out", config]
    sets = ["offline.updates=4", "evaluation.episodes=2"]
    train = [binary, "train", config, "--out", folder / "run", *(word for key in sets for word in ("--set", key))]
    for command in ([binary, "inspect", dataset], init, train):
        ran = subprocess.run(command, capture_output=True, text=True)
        check(f"{command[1]} takes it", ran.returncode == 0, ran.stderr.strip() if ran.returncode else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default="target/release/eva-rl")
    binary = parser.parse_args().binary.resolve()
    rows = play(episodes=5, steps=200)
    flat = {key: value for key, value in rows.items() if key != "next_observations"}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        check_file(binary, folder, "plain", flat, following=False)
        check_file(binary, folder, "next", rows, following=True)
        doubles = {key: value.astype(np.float64) for key, value in flat.items()}  # flags too
        check_file(binary, folder, "doubles", doubles, following=False, compression="lzf")
        dataset = check_file(binary, folder, "gzip", flat, following=False, compression="gzip")
        check_training(binary, folder, dataset)
    sys.exit(1 if FAILED else 0)


main()
