"""Check from Python what eva-rl wrote: minari, transformers, PEFT and TensorBoard read it.

Needs minari[hdf5], transformers, peft, torch and tensorboard. An example, from the repository's root:
    python tools/interop/check_interop.py --binary target/release/eva-rl --dataset datasets/pendulum-g14-v0 \
        --policy policies/pendulum --adapter runs/demo/best/adapter --run runs/demo
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

FAILED = []


def check(name, holds, found=""):
    print(f"{'ok' if holds else 'FAILED':6} {name} {found}")
    if not holds:
        FAILED.append(name)


def check_dataset(path):
    import minari
    import numpy as np

    dataset = minari.MinariDataset(path / "data")
    env = dataset.recover_environment()
    check("minari recovers the environment", env.spec.id == dataset.env_spec.id, f"{env.spec.id} {env.spec.kwargs}")
    theirs, ours = env.observation_space, dataset.observation_space  # MuJoCo's is of float64, and ours of float32
    same = theirs.shape == ours.shape and np.allclose(theirs.low, ours.low) and np.allclose(theirs.high, ours.high)
    check("its spaces are the dataset's", same)
    check("and its actions", env.action_space == dataset.action_space)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    steps = 0
    for episode in dataset.iterate_episodes():
        steps += len(episode.rewards)
        assert len(episode.observations) == len(episode.actions) + 1
        assert episode.terminations.dtype == bool and not episode.terminations[:-1].any()
        assert all(dataset.action_space.contains(action) for action in episode.actions)
    check("the steps are as many as the metadata says", steps == dataset.total_steps, steps)
    if "Pendulum" in env.spec.id:
        # From every recorded observation, Gymnasium earns the recorded reward.
        episode = next(dataset.iterate_episodes())
        env.reset()
        worst = 0.0
        for (cos, sin, speed), action, reward in zip(episode.observations, episode.actions, episode.rewards):
            env.unwrapped.state = np.array([np.arctan2(sin, cos), speed], dtype=np.float64)
            worst = max(worst, abs(float(env.unwrapped.step(action)[1]) - reward))
        check("Gymnasium earns an episode's rewards", worst < 1e-4, f"worst difference {worst:.2e}")


def load_policy(path):
    from transformers import DecisionTransformerModel

    model, info = DecisionTransformerModel.from_pretrained(path, output_loading_info=True)
    check("transformers misses no key", not info["missing_keys"], sorted(info["missing_keys"]))
    check("and meets no unexpected one", not info["unexpected_keys"], sorted(info["unexpected_keys"]))
    return model.eval()


def check_predictions(binary, model, policy, adapter):
    import torch
    from safetensors.torch import load_file, save_file

    config = model.config
    steps = min(config.n_positions // 3, 8)
    lengths = torch.tensor([steps, 1, steps // 2 + 1, steps])
    mask = (torch.arange(steps) >= steps - lengths[:, None]).long()
    inputs = {
        "states": torch.randn(4, steps, config.state_dim),
        "actions": torch.rand(4, steps, config.act_dim) * 2 - 1,
        "returns_to_go": torch.randn(4, steps, 1),
        "timesteps": torch.arange(steps).repeat(4, 1),
        "attention_mask": mask,
    }
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "in.safetensors", Path(folder) / "out.safetensors"
        save_file(inputs, given)
        command = [binary, "predict", str(policy), "--inputs", str(given), "--out", str(found)]
        command += ["--adapter", str(adapter)] if adapter else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = load_file(found)
    with torch.no_grad():
        expected = model(**inputs)
    for name in ("action_preds", "state_preds", "return_preds"):
        difference = (found[name] - expected[name])[mask.bool()].abs().max().item()
        check(f"predict gives transformers' {name}", difference < 1e-5, f"{difference:.1e}")


def check_run(path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path))
    events.Reload()
    tags = events.Tags()
    for tag in ("eval/mean_reward", "eval/std_reward", "train/loss", "train/learning_rate"):
        check(f"TensorBoard has {tag}", tag in tags["scalars"], f"{len(events.Scalars(tag))} points")
    constants = [tag for tag in tags["scalars"] if len(events.Scalars(tag)) == 1 and tag.startswith("eva/")]
    check("no constant of EVA's is a chart", not constants, constants)
    text = events.Tensors("eva/modules/text_summary")[0].tensor_proto.string_val[0].decode()
    rows = [line.split("|")[1:3] for line in text.splitlines()[2:]]
    total = sum(int(rank) for _, rank in rows)
    check("TensorBoard has a table of EVA's sites", total > 0, f"{len(rows)} sites, ranks of {total}")
    ranks = events.Histograms("eva/ranks")[0].histogram_value if "eva/ranks" in tags["histograms"] else None
    check("TensorBoard has a histogram of EVA's ranks", ranks is not None and ranks.sum == total, f"sum {total:g}")
    check_env_steps(path, events)
    check("TensorBoard has the config as text", "config/text_summary" in tags["tensors"])
    plugins = events.PluginTagToContent("hparams")
    check("TensorBoard has hyperparameters", "_hparams_/session_start_info" in plugins)


def check_card(path):
    """The Python lines of a run's README.md run from the repository, from the run's folder and from any other."""
    _, _, rest = (path / "README.md").read_text().partition("```python\n")
    lines = rest.partition("```")[0]
    with tempfile.TemporaryDirectory() as elsewhere:
        for folder in (Path.cwd(), path, Path(elsewhere)):
            ran = subprocess.run([sys.executable, "-c", lines], cwd=folder, capture_output=True, text=True)
            last = (ran.stderr.strip().splitlines() or [""])[-1]
            check(f"the model card's Python runs in {folder}", lines and ran.returncode == 0, last if ran.returncode else "")


def check_env_steps(path, events):
    """The same numbers over environment steps, where the run explored."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if "rollout/ep_rew_mean" not in events.Tags()["scalars"]:
        return
    by_steps = EventAccumulator(str(path / "env_steps"))
    by_steps.Reload()
    taken = [int(point.value) for point in by_steps.Scalars("time/total_timesteps")]
    for tag in ("rollout/ep_rew_mean", "eval/mean_reward"):
        found, wanted = by_steps.Scalars(tag), events.Scalars(tag)
        same = [point.value for point in found] == [point.value for point in wanted]
        on_axis = {point.step for point in found} <= {0, *taken}
        check(f"{tag} stands over environment steps too", same and on_axis, f"up to {taken[-1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/eva-rl")
    parser.add_argument("--dataset", type=Path, nargs="+", default=[])
    for name in ("policy", "adapter", "run"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args()
    for dataset in args.dataset:
        check_dataset(dataset)
    if args.policy:
        model = load_policy(args.policy)
        check_predictions(args.binary, model, args.policy, None)
        if args.adapter:
            from peft import PeftModel

            adapted = PeftModel.from_pretrained(model, args.adapter).eval()
            check("PEFT loads the adapter", adapted.peft_config["default"].peft_type.value == "LORA")
            check_predictions(args.binary, adapted, args.policy, args.adapter)
    if args.run:
        check_run(args.run)
        check_card(args.run)
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
