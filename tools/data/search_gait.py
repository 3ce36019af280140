"""Find a linear gait for a MuJoCo task by augmented random search, and print it as Rust.

Mania, Guy and Recht, arXiv 1803.07055, version V2: each iteration disturbs the weights along random directions
to both sides, and steps along the differences of return of the best ones; observations are normalised by all that
were seen. It stops at the first gait that earns `--target` in the mean, so a gait is only as good as was asked.
The same arguments find the same gait. Run it with the Python of `make bridge`:
.bridge/bin/python tools/data/search_gait.py Hopper-v5 --target 1500
"""

import argparse
import contextlib
import sys

import numpy as np

with contextlib.redirect_stdout(sys.stderr):  # EnvPool says what it could not import
    import envpool

# The paper's choices (its Table 9): directions, how many of them count, step, disturbance, and what a step earns
# for not having fallen, which the search does not see.
CHOICES = {
    "Hopper-v5": (8, 4, 0.01, 0.025, 1.0),
    "HalfCheetah-v5": (32, 4, 0.02, 0.03, 0.0),
    "Walker2d-v5": (40, 30, 0.03, 0.025, 1.0),
}
EVALUATE_EVERY = 2
TRIAL_EPISODES, FINAL_EPISODES = 20, 200
DIGITS = 4


class Moments:
    """Mean and deviation of all observations so far."""

    def __init__(self, width):
        self.count, self.total, self.squares = 0, np.zeros(width), np.zeros(width)

    def add(self, rows):
        self.count += len(rows)
        self.total += rows.sum(0)
        self.squares += (rows**2).sum(0)

    def mean_and_deviation(self):
        if self.count < 2:
            return np.zeros_like(self.total), np.ones_like(self.total)
        mean = self.total / self.count
        deviation = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0.0))
        return mean, np.where(deviation < 1e-7, np.inf, deviation)


def play(pool, gains, biases, moments=None):
    """Returns and lengths of one episode each: environment e acts by `gains[e] @ observation + biases[e]`."""
    count = len(gains)
    returns, lengths = np.zeros(count), np.zeros(count, dtype=int)
    live = np.arange(count, dtype=np.int32)
    observations, _ = pool.reset()
    while len(live) > 0:
        if moments is not None:
            moments.add(observations)
        actions = np.einsum("eao,eo->ea", gains[live], observations) + biases[live]
        observations, rewards, terminated, truncated, _ = pool.step(np.clip(actions, -1.0, 1.0), live)
        returns[live] += rewards
        lengths[live] += 1
        running = ~(terminated | truncated)
        live, observations = live[running], observations[running]
    return returns, lengths


def unfolded(weights, mean, deviation):
    """Weights of normalised observations as a gain and a bias of plain ones."""
    gains = weights / deviation
    return gains, -gains @ mean


def rounded(values):
    """To so few digits as the Rust source shall have."""
    return np.array([float(f"{value:.{DIGITS - 1}e}") for value in values.flat]).reshape(values.shape)


def as_rust(gain, bias):
    rows = ",\n".join(f"        &[{', '.join(f'{value!r}' for value in row)}]" for row in gain.tolist())
    return f"    gain: &[\n{rows},\n    ],\n    bias: &[{', '.join(f'{value!r}' for value in bias.tolist())}],"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env", choices=CHOICES)
    parser.add_argument("--target", type=float, required=True, help="mean return at which the search stops")
    parser.add_argument("--iterations", type=int, default=2000, help="after which it gives up")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    directions, best, step, disturbance, bonus = CHOICES[args.env]
    make = {"env_type": "gymnasium", "num_threads": 2}
    pool = envpool.make(args.env, num_envs=2 * directions, seed=1000 * args.seed, **make)
    trial = envpool.make(args.env, num_envs=TRIAL_EPISODES, seed=1000 * args.seed + 500, **make)
    rng = np.random.default_rng(args.seed)
    (height,), (width,) = pool.action_space.shape, pool.observation_space.shape
    weights, moments, steps = np.zeros((height, width)), Moments(width), 0

    for iteration in range(args.iterations):
        mean, deviation = moments.mean_and_deviation()
        if iteration % EVALUATE_EVERY == 0:
            gain, bias = map(rounded, unfolded(weights, mean, deviation))
            returns, lengths = play(trial, np.stack([gain] * TRIAL_EPISODES), np.stack([bias] * TRIAL_EPISODES))
            found = f"{returns.mean():.0f} in {lengths.mean():.0f} steps"
            print(f"iteration {iteration}, {steps} steps: {found}", file=sys.stderr)
            if returns.mean() >= args.target:
                break
        deltas = rng.normal(size=(directions, height, width))
        sides = np.concatenate([weights + disturbance * deltas, weights - disturbance * deltas])
        gains = sides / deviation
        returns, lengths = play(pool, gains, -gains @ mean, moments)
        steps += lengths.sum()
        up, down = np.split(returns - bonus * lengths, 2)
        chosen = np.argsort(-np.maximum(up, down), kind="stable")[:best]
        spread = np.concatenate([up[chosen], down[chosen]]).std()
        weights += step / (best * spread) * np.einsum("d,dao->ao", up[chosen] - down[chosen], deltas[chosen])
    else:
        sys.exit(f"no gait of {args.env} earned {args.target} in {args.iterations} iterations")

    final = envpool.make(args.env, num_envs=FINAL_EPISODES, seed=1000 * args.seed + 10_000, **make)
    returns, lengths = play(final, np.stack([gain] * FINAL_EPISODES), np.stack([bias] * FINAL_EPISODES))
    found = f"{returns.mean():.0f} ± {returns.std():.0f} in {lengths.mean():.0f} steps"
    print(f"// {args.env}: {found} over {FINAL_EPISODES} episodes, found in {steps} steps")
    print(as_rust(gain, bias))


if __name__ == "__main__":
    main()
