"""Write envs/tests/golden/spaces.json: spaces as Minari writes them, values, and what gymnasium.spaces.flatten makes of them.

    python tools/golden/golden_spaces.py > envs/tests/golden/spaces.json
"""

import json

import numpy as np
from gymnasium import spaces
from minari.serialization import serialize_space

SPACES = {
    "Box(-1, 1, (3,), float32)": spaces.Box(-1, 1, (3,)),
    "Box(-2, 2, (4, 3), float64)": spaces.Box(-2, 2, (4, 3), np.float64),
    "Box(-0.5, 1, (2,), float32)": spaces.Box(np.array([-0.5, 0.0]), np.array([0.5, 1.0]), dtype=np.float32),
    "Discrete(4)": spaces.Discrete(4),
    "Discrete(3, start=-1)": spaces.Discrete(3, start=-1),
    "MultiDiscrete([2, 3, 4])": spaces.MultiDiscrete([2, 3, 4]),
    "MultiDiscrete([3, 2, 2, 5])": spaces.MultiDiscrete([[3, 2], [2, 5]], start=[[1, 0], [0, 7]]),
    "MultiBinary(5)": spaces.MultiBinary(5),
    "MultiBinary((2, 3))": spaces.MultiBinary([2, 3]),
    "Tuple(Discrete(32), Discrete(11), Discrete(2))": spaces.Tuple(
        [spaces.Discrete(32), spaces.Discrete(11), spaces.Discrete(2)]
    ),
    "Dict(b: Discrete(2), a: Box(0, 1, (2, 2), float32))": spaces.Dict(b=spaces.Discrete(2), a=spaces.Box(0, 1, (2, 2))),
    "Dict(x: Tuple(MultiBinary(2), Dict(y: Discrete(3, start=5))), z: Box(0, 9, (1,), float32))": spaces.Dict(
        x=spaces.Tuple([spaces.MultiBinary(2), spaces.Dict(y=spaces.Discrete(3, start=5))]), z=spaces.Box(0, 9, (1,))
    ),
    "Text(1, 6, 62 characters)": spaces.Text(6),
    # Minari sorts the characters; these are sorted.
    "Dict(a: Discrete(2), t: Text(0, 4, 3 characters))": spaces.Dict(
        a=spaces.Discrete(2), t=spaces.Text(4, min_length=0, charset=" bä")
    ),
}


def recorded(space, value, path=()):
    """The arrays in which Minari records a value, by the keys that lead to them."""
    if isinstance(space, spaces.Dict):
        parts = [(key, part, value[key]) for key, part in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        parts = [(f"_index_{index}", part, value[index]) for index, part in enumerate(space.spaces)]
    elif isinstance(space, spaces.Text):
        return {"/".join(path): value}
    else:
        return {"/".join(path): np.asarray(value, np.float64).ravel().tolist()}
    found = {}
    for key, part, inner in parts:
        found |= recorded(part, inner, (*path, key))
    return found


def main():
    cases = []
    for seed, (name, space) in enumerate(SPACES.items()):
        space.seed(seed)
        value = space.sample()
        cases.append(
            {
                "name": name,
                "space": json.loads(serialize_space(space)),
                "recorded": recorded(space, value),
                "flattened": np.asarray(spaces.flatten(space, value), np.float64).tolist(),
            }
        )
    print(json.dumps(cases, indent=1))


if __name__ == "__main__":
    main()
