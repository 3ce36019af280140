"""Environments of Gymnasium's interface that do what they should not, for `it/bridge.rs` and `it/bridge_failures.rs`."""

import ctypes
import os
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces

ROOM = spaces.Box(-np.inf, np.inf, (2,), np.float64)


class Counter(gymnasium.Env):
    """Shows its episode's seed and the steps so far; ends after `length` of them. In step `at` it does its
    `deed`; where a file is named by `once`, only if that is not there yet, and makes it."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, deed="nothing", at=3, length=7, once=None, render_mode=None):
        self.render_mode = render_mode
        self.observation_space, self.action_space = ROOM, spaces.Discrete(2)
        self.deed, self.at, self.length, self.once = deed, at, length, once

    def show(self):
        return np.array([self.seed / 2**31, self.steps], np.float64)

    def reset(self, seed=None, options=None):
        self.seed, self.steps = seed or 0, 0
        if self.deed == "reset raises" and self.due():
            raise RuntimeError("no way to begin")
        return self.show(), {}

    def render(self):
        return np.stack([np.arange(6, dtype=np.uint8).reshape(2, 3)] * 3, axis=2)

    def due(self):
        if self.once is None:
            return True
        try:
            with open(self.once, "x") as file:
                file.write(str(os.getpid()))
            return True
        except FileExistsError:
            return False

    def step(self, action):
        self.steps += 1
        shown, reward, infos = self.show(), float(action), {"steps": self.steps, "pid": os.getpid()}
        infos |= {"parent": os.getppid(), "luck": np.random.random()}
        if self.steps == self.at and self.deed != "nothing" and self.due():
            match self.deed:
                case "exit":
                    os._exit(3)
                case "sys.exit":
                    sys.exit(4)
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "segfault":
                    ctypes.string_at(0)
                case "hang":
                    time.sleep(1000)
                case "hang with the lock":
                    ctypes.PyDLL(None).sleep(1000)
                case "raise":
                    raise ValueError("the wheel came off\nand rolled away")
                case "show nan":
                    shown = shown * np.nan
                case "earn nan":
                    reward = float("nan")
                case "show three":
                    shown = np.zeros(3)
                case "show words":
                    shown = np.array(["a", "b"])
                case "earn nothing":
                    reward = None
                case "inform wrongly":
                    infos = {"steps": "many"}
                case "fork":
                    child = subprocess.Popen(["sleep", "1000"])
                    with open(self.once, "w") as file:
                        file.write(str(child.pid))
                    if os.fork() == 0:
                        time.sleep(1000)
                    os._exit(5)
                case "speak nonsense":
                    for descriptor in range(3, 64):
                        try:
                            os.write(descriptor, b"\xee" * 9)
                        except OSError:
                            pass
        if self.deed == "print":
            print("a line that is no answer", flush=True)
            os.write(1, b"." * 100)
            sys.stdin.read()
        return shown, reward, self.steps == self.length, False, infos


class Told(Counter):
    """Succeeds in the middle of every other episode, and tells it in a dict of things."""

    def __init__(self):
        super().__init__(length=5)
        parts = {"b": spaces.Box(-9, 9, (2, 2), np.float32), "a": spaces.Discrete(3, start=1)}
        self.observation_space = spaces.Dict({"outer": spaces.Dict(parts), "first": spaces.Box(0, 255, (3,), np.uint8)})
        self.action_space = spaces.MultiDiscrete([2, 3])

    def show(self):
        corner = np.full((2, 2), self.steps, np.float32)
        corner[0, 1] = -1
        return {"outer": {"b": corner, "a": 1 + self.steps % 3}, "first": np.array([self.steps, 1, 255], np.uint8)}

    def step(self, action):
        assert action.shape == (2,) and action.dtype == np.int64, action
        action = action[0] + 10 * action[1]
        shown, reward, ended, cut, infos = super().step(action)
        return shown, reward, ended, cut, {"success": self.steps == 2 and self.seed % 2 == 0, "twice": 2 * self.steps}


class Seen(Counter):
    """Shows an image, channels last, between a Discrete and numbers; every pixel says its place and the step."""

    def __init__(self):
        super().__init__(length=3)
        image = spaces.Box(0, 255, (4, 5, 3), np.uint8)
        self.observation_space = spaces.Dict({"a": spaces.Discrete(2), "b": image, "c": spaces.Discrete(3)})

    def show(self):
        image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3) + self.steps
        return {"a": self.steps % 2, "b": image, "c": self.steps % 3}


class Odd(gymnasium.Env):
    """Has the spaces that it is given the names of."""

    def __init__(self, shows="Box", takes="Discrete"):
        odd = {
            "Box": ROOM,
            "Discrete": spaces.Discrete(2),
            "Graph": spaces.Graph(ROOM, None),
            "edges": spaces.Dict(image=ROOM, edges=spaces.Graph(ROOM, None)),
            "unbounded Box": ROOM,
        }
        self.observation_space, self.action_space = odd[shows], odd[takes]

    def reset(self, seed=None, options=None):
        return np.zeros(2), {}

    def step(self, action):
        return np.zeros(2), 0.0, False, False, {}


class Handed(gymnasium.Env):
    """Hands things over in its own way: observations of a Tuple, actions from 3 on, a reward in an array, and infos
    that are None but for an episode's last step."""

    observation_space = spaces.Tuple([spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3])])
    action_space = spaces.Discrete(2, start=3)

    def reset(self, seed=None, options=None):
        self.steps = 0
        return (np.array([1, 0], np.int8), np.array([1, 2])), {}

    def step(self, action):
        assert action in (3, 4), action
        self.steps += 1
        shown = (np.array([0, self.steps % 2], np.int8), np.array([0, self.steps % 3]))
        last = self.steps == 3
        infos = {"is_success": True if last else None, "fuel": None if last else np.array([0.5])}
        return shown, np.array([[float(action)]]), last, False, infos


class Bounded(gymnasium.Env):
    """Takes only what is inside its own bounds, which are no float32."""

    observation_space = ROOM
    action_space = spaces.Box(np.array([-0.1, -2 / 3]), np.array([0.1, 2 / 3]), dtype=np.float64)

    def reset(self, seed=None, options=None):
        return np.zeros(2), {}

    def step(self, action):
        assert action.dtype == np.float64 and self.action_space.contains(action), action
        return np.zeros(2), 1.0, False, False, {}


class Takes(gymnasium.Env):
    """Takes actions of the space that it is given the name of, and shows the last one, or the first there is, and
    a mission. Its episodes are cut by itself, each after as many steps as its seed says."""

    def __init__(self, takes="Box"):
        self.action_space = {
            "Box": spaces.Box(np.array([[-2, 0]]), np.array([[3, 1]]), dtype=np.int16),
            "Discrete": spaces.Discrete(3, start=-1),
            "MultiDiscrete": spaces.MultiDiscrete([[2, 3]], start=[[-4, 5]]),
            "MultiBinary": spaces.MultiBinary([1, 2]),
        }[takes]
        taken = spaces.Box(-9, 9, self.action_space.shape, np.int64)
        self.observation_space = spaces.Dict(taken=taken, mission=spaces.Text(7, min_length=0, charset=" go"))
        self.max_steps = 0  # until it begins, as MiniGrid has it

    def show(self, taken, mission):
        return {"taken": np.asarray(taken, np.int64), "mission": mission}

    def reset(self, seed=None, options=None):
        self.steps, self.max_steps = 0, 4 + (seed or 0) % 3
        return self.show(np.zeros(self.action_space.shape), ""), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.steps += 1
        shown = self.show(action, "go go"[: self.steps])
        return shown, float(np.sum(action)), False, self.steps == self.max_steps, {}


class OldStep(Counter):
    """Steps as the old gym API has it."""

    def step(self, action):
        shown, reward, ended, _, infos = super().step(action)
        return shown, reward, ended, infos


class OldReset(Counter):
    """Begins as the old gym API has it."""

    def reset(self, seed=None, options=None):
        return super().reset(seed=seed)[0]


gymnasium.register("Seen-v0", Seen, max_episode_steps=100)
gymnasium.register("Handed-v0", Handed, max_episode_steps=100)
gymnasium.register("Bounded-v0", Bounded, max_episode_steps=100)
gymnasium.register("OldStep-v0", OldStep, max_episode_steps=100)
gymnasium.register("OldReset-v0", OldReset, max_episode_steps=100)
gymnasium.register("Counter-v0", Counter, max_episode_steps=100)
gymnasium.register("Told-v0", Told, max_episode_steps=100)
gymnasium.register("Odd-v0", Odd, max_episode_steps=100)
gymnasium.register("Endless-v0", Counter)
gymnasium.register("Takes-v0", Takes)
