"""Environments that show images, for `tests/pixels.rs`."""

import gymnasium
import numpy as np
from gymnasium import spaces

SIZE = 84


class Bars(gymnasium.Env):
    """Shows its last four frames, each a bar at one of a few places; the action that names the place of the latest
    one earns 1. Six actions of 18 name one. Images are channels first, or last, or of colours that are not stacked."""

    def __init__(self, length=8, show="stacked"):
        shape = {"stacked": (4, SIZE, SIZE), "channels last": (SIZE, SIZE, 4), "whole": (4, SIZE, SIZE)}[show]
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = spaces.Discrete(18)
        self.length, self.show = length, show

    def frame(self):
        self.place = self.draw.integers(6)
        frame = np.zeros((SIZE, SIZE), np.uint8)
        frame[:, 14 * self.place : 14 * (self.place + 1)] = 255 - self.steps
        return frame

    def look(self):
        self.frames = self.frames[1:] + [self.frame()]
        image = np.stack(self.frames)
        if self.show == "whole":
            image[:, 0, 0] = self.steps
        return image.transpose(1, 2, 0) if self.show == "channels last" else image

    def reset(self, seed=None, options=None):
        self.draw, self.steps = np.random.default_rng(seed), 0
        self.frames = [np.zeros((SIZE, SIZE), np.uint8)] * 4
        return self.look(), {}

    def step(self, action):
        reward = float(action == self.place)
        self.steps += 1
        return self.look(), reward, self.steps == self.length, False, {}


class Keys(gymnasium.Env):
    """Shows symbols, a direction, and a mission that names the colour of a key; the action of that colour earns 1."""

    def __init__(self, length=1, colours=("red", "green", "blue")):
        letters = "abcdefghijklmnopqrstuvwxyz "
        mission = spaces.Text(20, charset=letters)
        image = spaces.Box(0, 255, (7, 7, 3), np.uint8)
        self.observation_space = spaces.Dict(image=image, direction=spaces.Discrete(4), mission=mission)
        self.action_space = spaces.Discrete(3)
        self.length, self.colours = length, colours

    def look(self):
        image = np.full((7, 7, 3), self.draw.integers(6), np.uint8)
        mission = f"take the {self.colours[self.key]} key"
        return {"image": image, "direction": int(self.draw.integers(4)), "mission": mission}

    def reset(self, seed=None, options=None):
        self.draw, self.steps = np.random.default_rng(seed), 0
        self.key = int(self.draw.integers(3))
        return self.look(), {}

    def step(self, action):
        self.steps += 1
        return self.look(), float(action == self.key), self.steps == self.length, False, {}


gymnasium.register("Keys-v0", Keys, max_episode_steps=20)
gymnasium.register("Bars-v0", Bars, max_episode_steps=20)
