"""Prints the kinds of spaces that EnvPool's ids have, each with its ids, for `it/kinds.rs`."""

import json
import warnings

import envpool
from gymnasium import spaces


def kind(space):
    """Types, numpy types and numbers of axes; of a Dict or a Tuple those of its parts, each once."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return f"{type(space).__name__}({', '.join(sorted({kind(part) for part in parts}))})"
    axes = f" {len(space.shape)}" if space.shape else ""
    return f"{type(space).__name__} {space.dtype}{axes}"


def main():
    warnings.simplefilter("ignore")
    kinds, unknown = {}, {}
    for id in envpool.list_all_envs():
        try:
            spec = envpool.make_spec(id)
        except Exception as error:
            unknown.setdefault(str(error).strip().splitlines()[0], []).append(id)
            continue
        kinds.setdefault(f"{kind(spec.observation_space)} -> {kind(spec.action_space)}", []).append(id)
    print(json.dumps({"kinds": kinds, "unknown": unknown}))


main()
