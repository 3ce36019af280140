"""The fork server of eva-rl's workers, and the workers, which it forks: each hosts environments, or experts.

eva-rl's ends are `fork_server.rs` and `process.rs`. It speaks with each process over a socket, which is the fork
server's standard input: eva-rl sends a command of one byte, and gets ANSWERED or FAILED, both with a text behind
where one is due (its length as four bytes, then UTF-8). Numbers and images go through memory that both share.
"""

import difflib
import fcntl
import gc
import importlib
import importlib.util
import json
import mmap
import os
import re
import select
import signal
import socket
import string
import struct
import sys
import traceback
import types
import warnings

ANSWERED, FAILED = b".", b"!"
RUNNING, TERMINATED, TRUNCATED = 0, 1, 2
# In place of a seed, which has 31 bits: the environment is not stepped.
RETIRED = 2**32 - 1
# What says, by its usual names, that an episode has succeeded.
SUCCESS = ["success", "is_success"]
# Half an hour of Atari, which humans and random play have had.
ATARI_FRAMES = 108_000
# Of success, where a step's infos have none.
NOT_TOLD = -1
# Episodes that are looked at where a spec has no limit of steps: those of BabyAI have limits of their own, and in 128
# the longest is there for certain (of BossLevel's, one in twelve).
EPISODES = 128
# Steps of an episode after which it is taken for one without a limit.
LONGEST = 20_000
# Pools that EnvPool's environments are shared out to, at most: each costs a few calls a step.
MAX_POOLS = 4
# Bounds of an observation's Box that are told one by one, at most; a picture may have a million.
MOST_BOUNDS = 10_000
# Characters of a text whose space does not say how many there may be.
LONGEST_TEXT = 512


def main():
    # What an environment reads from its standard input must not come out of the socket.
    channel = Channel(socket.socket(fileno=os.dup(0)))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    lifeline = channel.receive_file()
    die_with(lifeline)
    try:
        prepare(json.loads(channel.receive_text()))
    except Exception:
        pass  # a worker that lacks something says so
    # Forks share what the fork server holds for as long as nobody writes to it, as a collection would.
    gc.collect()
    gc.freeze()
    while command := channel.receive(1):
        match command:
            case b"F":
                theirs = channel.receive_file()
                if process := fork():
                    os.close(theirs)
                    channel.answer(str(process))
                    continue
                os.close(lifeline)
                channel.connection.close()
                work(Channel(socket.socket(fileno=theirs)))
                return
            case b"W":
                _, status = os.waitpid(channel.receive_number(), 0)
                channel.answer(str(status))


def prepare(order):
    """Imports what forks may share: libraries of known conduct, which start no thread that a fork would lack."""
    if order["host"] == "gymnasium":
        import gymnasium

        entry = gymnasium.registry[order["id"]].entry_point
        if isinstance(entry, str) and entry.startswith("gymnasium."):
            importlib.import_module(entry.partition(":")[0])


def fork():
    """The new process's number here, and 0 there, where it leads a group that can be ended whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of numpy's threads, which stand idle
        process = os.fork()
    os.setpgid(process, process)  # on both sides, because either may be the first to count on it
    if process == 0 and "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()  # from the system, as Python does with its own generator
    return process


def work(channel):
    die_with(channel.receive_file())
    order = json.loads(channel.receive_text())
    try:
        for module in order["imports"]:
            importlib.import_module(module)
        host = HOSTS[order["host"]](order)
        channel.answer(json.dumps(host.contract))
        memory = channel.receive_file()
        host.map(mmap.mmap(memory, 0), json.loads(channel.receive_text()))
        os.close(memory)
        channel.answer()
    except Exception as error:
        channel.fail(error)
        return
    # What was made so far stays: no collection need look at it again.
    gc.collect()
    gc.freeze()
    while command := channel.receive(1):
        try:
            match command:
                case b"S":
                    host.step()
                    channel.answer()
                case b"A":
                    host.act(channel.receive_number())
                    channel.answer()
                case b"R":
                    host.reset()
                    channel.answer()
                case b"D":
                    channel.answer_bytes(frame(host.draw(channel.receive_number())))
        except Exception as error:
            channel.fail(error)
    host.close()


def die_with(lifeline):
    """Has the kernel kill this process group once eva-rl, which holds the lifeline's other end, is gone.

    No thread of this process could do it as surely: one that never gives up Python's lock stops them all.
    """
    os.set_inheritable(lifeline, False)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    watch = select.poll()
    watch.register(lifeline, select.POLLHUP)
    if watch.poll(0):  # it was gone before the kernel was told
        os._exit(1)


class Channel:
    """The socket."""

    def __init__(self, connection):
        self.connection = connection

    def receive(self, count):
        """So many bytes, or none where eva-rl has closed."""
        data = self.connection.recv(count)
        while data and len(data) < count:
            more = self.connection.recv(count - len(data))
            if not more:
                return b""
            data += more
        return data

    def receive_number(self):
        return struct.unpack("<I", self.receive(4))[0]

    def receive_text(self):
        return self.receive(self.receive_number()).decode()

    def receive_file(self):
        data, files, _, _ = socket.recv_fds(self.connection, 1, 1)
        if not data:
            sys.exit(0)  # eva-rl has closed
        return files[0]

    def answer(self, text=None):
        if text is None:
            self.connection.sendall(ANSWERED)
        else:
            self.answer_bytes(text.encode())

    def answer_bytes(self, data):
        self.connection.sendall(ANSWERED + struct.pack("<I", len(data)) + data)

    def fail(self, error):
        first_line = (str(error).strip().splitlines() or [""])[0]
        text = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
        text += place(error)
        package = error.name if isinstance(error, ModuleNotFoundError) else None
        data = json.dumps({"error": text, "package": package}).encode()
        self.connection.sendall(FAILED + struct.pack("<I", len(data)) + data)


def place(error):
    """File, line and code of the last call in the traceback that is the environment's own, if there is one."""
    standard = os.path.dirname(os.__file__)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = frame.filename
        inside = os.path.relpath(path, standard).split(os.sep)
        library = inside[0] != os.pardir and inside[0] not in ("site-packages", "dist-packages")
        if path.startswith("<") or library or {"gymnasium", "envpool", "numpy"} & set(path.split(os.sep)):
            continue
        return f" ({path}, line {frame.lineno}, in {frame.name}: `{frame.line}`)"
    return ""


class Rows:
    """The mapped memory: one row an environment. `shared_buffer.rs` has the same order."""

    def __init__(self, memory, rows, layout):
        import numpy

        self.memory, self.offset, self.numpy = memory, 0, numpy
        self.seeds = self.take(numpy.uint32, rows)
        self.actions = self.take(numpy.float32, rows, layout["action_width"])
        # One after another from the first on, in the order of the environments that ended.
        self.final_observations = self.take(numpy.float32, rows, layout["observation_width"])
        self.observations = self.take(numpy.float32, rows, layout["observation_width"])
        self.experts = self.take(numpy.float32, rows, layout["expert_width"])
        self.rewards = self.take(numpy.float32, rows)
        self.infos = self.take(numpy.float32, rows, len(layout["infos"]))
        self.phases = self.take(numpy.uint8, rows)
        shape = layout["image"]["shape"] if layout["image"] else [0]
        self.pixels = self.take(numpy.uint8, rows, *shape)
        self.final_pixels = self.take(numpy.uint8, rows, *shape)
        if self.offset != len(memory):
            raise ValueError(f"the shared memory has {len(memory)} bytes, expected {self.offset}")

    def take(self, kind, *shape):
        numpy = self.numpy
        count = int(numpy.prod(shape))
        array = numpy.frombuffer(self.memory, kind, count, self.offset) if count else numpy.empty(0, kind)
        self.offset += array.nbytes
        return array.reshape(shape)


class GymnasiumHost:
    """Environments of Gymnasium's registry, stepped one after another."""

    def __init__(self, order):
        import gymnasium
        import numpy

        self.numpy = numpy
        # eva-rl checks what Gymnasium's checker warns about.
        kwargs = {"disable_env_checker": True, **order["kwargs"]}
        self.envs = [gymnasium.make(order["id"], **kwargs) for _ in range(order["rows"])]
        env = self.envs[0]
        self.observation, self.action = Observation(env.observation_space), Actions(env.action_space)
        self.bots = [Bot(env) for env in self.envs] if order["bot"] else []
        # BabyAI rewards success and nothing else, and has no info of it.
        self.rewards_success = type(env.unwrapped).__module__.startswith("minigrid.envs.babyai")
        if self.rewards_success:
            # Of each layout that it rejects.
            sys.modules["minigrid.envs.babyai.core.roomgrid_level"].print = lambda *_: None
        limit = getattr(env.spec, "max_episode_steps", None)
        if limit is None and (limit := self.own_limit(env)):
            self.envs = [gymnasium.wrappers.TimeLimit(env, limit) for env in self.envs]
        self.contract = {
            "observation": described(env.observation_space, MOST_BOUNDS),
            "action": described(env.action_space),
            "max_episode_steps": limit,
            "reward_threshold": getattr(env.spec, "reward_threshold", None),
            # Infos are known once they are given, and some only at an episode's end: it may always be there.
            "success": "success",
            "atari_game": self.atari_game(env),
        }

    @staticmethod
    def atari_game(env):
        """ALE's game, where no wrapper of Gymnasium's changes rewards or ends an episode with a life."""
        if not type(env.unwrapped).__module__.startswith("ale_py."):
            return None
        from gymnasium import RewardWrapper
        from gymnasium.wrappers import NormalizeReward

        frames = getattr(env.spec, "max_episode_steps", None) or 0
        while env is not env.unwrapped:
            if isinstance(env, (RewardWrapper, NormalizeReward)) or vars(env).get("terminal_on_life_loss", False):
                return None
            frames *= vars(env).get("frame_skip", 1)
            env = env.env
        skip = getattr(env, "_frameskip", 1)  # or a range of which one is drawn
        frames *= skip if isinstance(skip, int) else min(skip)
        return getattr(env, "_game", None) if frames >= ATARI_FRAMES else None

    def own_limit(self, env):
        """The greatest that some episodes have, of an environment that cuts them itself, as MiniGrid does."""
        limits = []
        while hasattr(env.unwrapped, "max_steps") and len(limits) < EPISODES:
            env.reset(seed=len(limits))
            limits.append(env.unwrapped.max_steps)
        return max((limit for limit in limits if isinstance(limit, int)), default=None)

    def map(self, memory, layout):
        self.rows = Rows(memory, len(self.envs), layout)
        self.observation.keep_apart(layout["image"])
        self.names = list(enumerate(layout["infos"]))

    def reset(self):
        for row, env in enumerate(self.envs):
            shown, _ = begin(env, int(self.rows.seeds[row]))
            self.observation.write(shown, self.rows.observations[row], self.rows.pixels[row])
        for row, bot in enumerate(self.bots):
            self.rows.experts[row] = bot.begin()

    def step(self):
        rows, ended = self.rows, 0
        actions = self.action.of(self.rows.actions)
        for row, env in enumerate(self.envs):
            if rows.seeds[row] == RETIRED:
                rows.rewards[row], rows.infos[row], rows.phases[row] = 0, 0, RUNNING
                continue
            try:
                shown, reward, terminated, truncated, infos = env.step(actions[row])
            except ValueError as error:
                refuse_old_api(error, "step()", STEP)
                raise
            rows.rewards[row] = reward if isinstance(reward, float) else number(reward, "the reward")
            for column, name in self.names:
                if name == "success":
                    told = reward > 0 if self.rewards_success else success(infos) if infos else NOT_TOLD
                    rows.infos[row, column] = told
                    continue
                value = infos.get(name)
                rows.infos[row, column] = 0 if value is None else number(value, f"the info `{name}`")
            if terminated or truncated:
                rows.phases[row] = TERMINATED if terminated else TRUNCATED
                self.observation.write(shown, rows.final_observations[ended], rows.final_pixels[ended])
                ended += 1
                shown, _ = begin(env, int(rows.seeds[row]))
            else:
                rows.phases[row] = RUNNING
            self.observation.write(shown, rows.observations[row], rows.pixels[row])
        for row, bot in enumerate(self.bots):
            if rows.seeds[row] == RETIRED:
                continue
            over = rows.phases[row] != RUNNING
            rows.experts[row] = bot.begin() if over else bot.follow(actions[row])

    def draw(self, row):
        return self.envs[row].render()

    def close(self):
        for env in self.envs:
            env.close()


class Bot:
    """BabyAI's bot, which looks at the whole environment and says what it would do."""

    def __init__(self, env):
        from minigrid.utils.baby_ai_bot import BabyAIBot

        self.make, self.env = BabyAIBot, env

    def begin(self):
        """Its first action in an episode, or in the rest of one."""
        self.bot = self.make(self.env)
        return self.follow(None, is_new=True)

    def follow(self, taken, is_new=False):
        """Its next action, after one that may not be what it said. A bot that fails, by whatever error, is replaced by
        one that plans from here, and where that fails at once, nothing is done."""
        try:
            return int(self.bot.replan(taken))
        except Exception:
            return int(self.env.unwrapped.actions.done) if is_new else self.begin()


class EnvPoolHost:
    """Pools of EnvPool's, which step on threads of their own."""

    def __init__(self, order):
        import envpool
        import numpy

        self.numpy, self.envpool = numpy, envpool
        self.id, self.kwargs, self.count = order["id"], dict(order["kwargs"]), order["rows"]
        # Ours, not EnvPool's: whether frames of Atari are shown as negatives, and by how many rows they are moved down.
        self.invert = self.kwargs.pop("invert_frames", False)
        self.shift = self.kwargs.pop("shift_frames", 0)
        if self.id not in envpool.list_all_envs():
            nearest = ", ".join(difflib.get_close_matches(self.id, envpool.list_all_envs()))
            raise ValueError(f"EnvPool has no task of this name{'; the nearest are ' if nearest else ''}{nearest}")
        # Of bounds in float64, which round to float32.
        warnings.filterwarnings("ignore", module="gymnasium.spaces")
        spec = envpool.make_spec(self.id, **self.kwargs)
        self.observation, self.action = Observation(spec.observation_space), Actions(spec.action_space)
        if hasattr(spec.config, "sudoku_database"):
            # EnvPool 1.2.5 looks for them among its assets, and has them in its package.
            self.kwargs = {"base_path": os.path.dirname(envpool.__file__), **self.kwargs}
        if not isinstance(self.invert, bool):
            raise ValueError(f"invert_frames is {json.dumps(self.invert)}, expected true or false")
        if type(self.shift) is not int:
            raise ValueError(f"shift_frames is {json.dumps(self.shift)}, expected a whole number of rows")
        for name, value in (("invert_frames", self.invert), ("shift_frames", self.shift)):
            if value and not hasattr(spec.config, "repeat_action_probability"):
                raise ValueError(f"{name} is {json.dumps(value)}, and only Atari's games can be shown so")
        if getattr(spec.config, "max_num_players", 1) != 1:
            raise ValueError("it has more than one player")
        if not getattr(spec.config, "use_combined_action", True):
            sentence = "its buttons have no bounds, expected the kwarg `use_combined_action=true`: one of their combinations"
            raise ValueError(sentence)
        if getattr(spec.config, "batch_size", 0) not in (0, 1):
            raise ValueError("it is stepped as one batch, so `batch_size` cannot be set")
        keys = [key.removeprefix("info:") for key in spec.state_array_spec if key.startswith("info:")]
        self.infos = [key for key in keys if "env_id" not in key]
        # Some tasks have no limit in their spec, and one of their own; some have one that they do not keep.
        self.limit = getattr(spec.config, "max_episode_steps", None) or self.own_limit(spec.action_space)
        self.contract = {
            "observation": described(spec.observation_space, MOST_BOUNDS),
            "action": described(spec.action_space),
            "max_episode_steps": self.limit,
            "reward_threshold": spec.reward_threshold,
            "success": next((name for name in SUCCESS if name in self.infos), None),
            "atari_game": self.atari_game(spec.config),
        }
        self.pools = []

    @staticmethod
    def atari_game(config):
        """The game of Atari's, where rewards are its own and an episode is all of it."""
        if not hasattr(config, "repeat_action_probability") or config.reward_clip or config.episodic_life:
            return None
        return config.task if config.max_episode_steps * config.frame_skip >= ATARI_FRAMES else None

    def own_limit(self, space):
        """The longest of some episodes in which nothing is done; none where one does not end."""
        sizes = {"num_envs": EPISODES, "seed": 0}
        pool = self.envpool.make(self.id, env_type="gymnasium", **{**self.kwargs, **sizes})
        pool.reset()
        actions = self.numpy.zeros((EPISODES, *space.shape), space.dtype)
        running = self.numpy.ones(EPISODES, bool)
        for steps in range(1, LONGEST + 1):
            _, _, terminated, truncated, _ = pool.step(actions)
            running &= ~(terminated | truncated)
            if not running.any():
                return steps
        return None

    def map(self, memory, layout):
        self.rows = Rows(memory, self.count, layout)
        self.observation.keep_apart(layout["image"])
        self.names = list(enumerate(layout["infos"]))
        for name in layout["infos"]:
            if name not in self.infos:
                raise ValueError(f"it has no info `{name}`; it has {', '.join(self.infos)}")

    def reset(self):
        # EnvPool takes seeds only when it makes a pool.
        self.pools.clear()
        self.steps = self.numpy.zeros(self.count, int)  # of each environment's episode
        # Pools with few threads each disturb each other less than many threads at one queue do, and one
        # begins its ended episodes anew while another still steps.
        cores = len(os.sched_getaffinity(0))
        pools = 1 if "num_threads" in self.kwargs else min(cores, MAX_POOLS, self.count)
        for index in range(pools):
            share = slice(index * self.count // pools, (index + 1) * self.count // pools)
            seeds = [int(seed) for seed in self.rows.seeds[share]]
            sizes = {"num_envs": len(seeds), "seed": seeds, "num_threads": -(-cores // pools)}
            made = self.envpool.make(self.id, env_type="gymnasium", **{**sizes, **self.kwargs})
            self.pools.append((made, share))
        for pool, share in self.pools:
            shown, _ = pool.reset()
            self.show(shown, share)

    def step(self):
        actions = self.action.of(self.rows.actions)
        retired = self.rows.seeds == RETIRED
        self.rows.rewards[retired], self.rows.infos[retired], self.rows.phases[retired] = 0, 0, RUNNING
        stepped = [self.numpy.flatnonzero(~retired[share]).astype(self.numpy.int32) for _, share in self.pools]
        for (pool, share), rows in zip(self.pools, stepped):
            if len(rows):
                pool.send(actions[share][rows], rows)
        ended = [self.take(pool, share, rows, actions[share]) for (pool, share), rows in zip(self.pools, stepped)]
        taken = 0
        for (pool, share), (ended, over) in zip(self.pools, ended):
            rows = self.numpy.union1d(ended, over)
            if not len(rows):
                continue
            begun = share.start + rows
            self.rows.final_observations[taken : taken + len(rows)] = self.rows.observations[begun]
            self.rows.final_pixels[taken : taken + len(rows)] = self.rows.pixels[begun]
            taken += len(rows)
            if len(ended):
                self.show(pool.recv()[0], share.start + ended)
            if len(over):
                self.show(pool.reset(over)[0], share.start + over)

    def show(self, shown, rows):
        """Copies a batch of observations into these rows."""
        count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        if self.invert:
            shown = 255 - shown
        if self.shift:
            shown = self.numpy.roll(shown, self.shift, -2)  # what leaves at the bottom enters at the top
        self.rows.observations[rows] = self.observation.rows(shown, count)
        if self.observation.image:
            self.rows.pixels[rows] = self.observation.pixels(shown)

    def take(self, pool, share, stepped, actions):
        """Copies what the step of some of a pool's environments gave, and has what ended begin anew in the meantime. Says
        what ended, and what has played as long as it may without ending."""
        if not len(stepped):
            return stepped, stepped
        shown, rewards, terminated, truncated, infos = pool.recv()
        rows = share if len(stepped) == share.stop - share.start else share.start + stepped
        self.steps[rows] += 1
        done = terminated | truncated
        limited = ~done & (self.steps[rows] >= self.limit) if self.limit else self.numpy.zeros_like(done)
        ended, over = stepped[done], stepped[limited]
        if len(ended):
            pool.send(actions[ended], ended)  # whatever it is told after its end, it begins anew
        self.show(shown, rows)
        self.rows.rewards[rows] = rewards
        for column, name in self.names:
            self.rows.infos[rows, column] = infos[name]
        self.rows.phases[rows] = self.numpy.where(terminated, TERMINATED, TRUNCATED * (truncated | limited))
        self.steps[share.start + ended], self.steps[share.start + over] = 0, 0
        return ended, over

    def draw(self, row):
        for pool, share in self.pools:
            if row < share.stop:
                return pool.render(row - share.start)[0]

    def close(self):
        self.pools.clear()


class MetaWorldExpert:
    """The hand-written policy of a Meta-World task, which needs its observation alone."""

    def __init__(self, order):
        import numpy

        self.numpy, self.count = numpy, order["rows"]
        # `import metaworld` would want MuJoCo; the policies do not.
        found = importlib.util.find_spec("metaworld")
        if found is None:
            raise ModuleNotFoundError("No module named 'metaworld'", name="metaworld")
        package = types.ModuleType("metaworld")
        package.__path__ = list(found.submodule_search_locations)
        sys.modules["metaworld"] = package
        policies = importlib.import_module("metaworld.policies").ENV_POLICY_MAP
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", order["id"].removeprefix("MetaWorld/")).lower()
        if name not in policies:
            raise ValueError(f"Meta-World has no expert for `{name}`")
        self.policy = policies[name]()
        warnings.simplefilter("ignore")  # of actions beyond their bounds, which are cut here
        self.contract = None

    def map(self, memory, layout):
        self.rows = Rows(memory, self.count, layout)

    def act(self, count):
        observations = self.rows.observations[:count].astype(self.numpy.float64)
        for row, observation in enumerate(observations):
            self.numpy.clip(self.policy.get_action(observation), -1, 1, out=self.rows.actions[row])

    def close(self):
        pass


HOSTS = {"gymnasium": GymnasiumHost, "envpool": EnvPoolHost, "metaworld_expert": MetaWorldExpert}


def begin(env, seed):
    """What an environment of Gymnasium's shows first, and its infos."""
    try:
        given = env.reset(seed=seed)
    except ValueError as error:
        refuse_old_api(error, "reset()", RESET)
        raise
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict)):
        raise TypeError(f"reset() gives {type(given).__name__}, and {RESET}")
    return given


RESET = "Gymnasium's gives an observation and a dict of infos (the old gym API gives the observation alone)"
STEP = "Gymnasium's gives observation, reward, terminated, truncated and a dict of infos (the old gym API gives four)"


def refuse_old_api(error, call, wanted):
    """Says what one of Gymnasium's wrappers, or this file, could not take apart."""
    *_, last = traceback.extract_tb(error.__traceback__)
    ours = last.filename.startswith("<") or "gymnasium" in last.filename.split(os.sep)
    if "values to unpack" in str(error) and ours:
        raise TypeError(f"{call} gives another number of values, and {wanted}") from error


def success(infos):
    """Whether infos say that the episode has succeeded, where they do in a number; nobody has asked for it."""
    for name in SUCCESS:
        if (value := infos.get(name)) is not None:
            try:
                return number(value, "success") != 0
            except (TypeError, ValueError):
                pass
    return NOT_TOLD


def number(value, what):
    """One number, also where it is an array of one element."""
    import numpy

    if value is None:
        raise TypeError(f"{what} is None, expected a number")
    try:
        array = numpy.asarray(value, numpy.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{what} is {type(value).__name__}, expected a number") from None
    if array.size != 1:
        raise ValueError(f"{what} has shape {array.shape}, expected one number")
    return array.item()


def described(space, most_bounds=None):
    """A space as Minari writes it in JSON, with bounds that are the same everywhere written once, and infinite ones
    as none. Of a Box of more numbers than `most_bounds` the least and the greatest bound. `space/json.rs` reads it."""
    import numpy
    from gymnasium import spaces

    def bound(values, one):
        # EnvPool writes the least positive double where it means the least one.
        values = numpy.where(values == numpy.finfo(numpy.float64).tiny, -numpy.inf, values)
        with numpy.errstate(over="ignore"):
            values = values.astype(numpy.float32).ravel()
        if len(values) and (values == values[0]).all():
            values = values[:1]
        elif most_bounds is not None and len(values) > most_bounds:
            values = one(values, keepdims=True)
        numbers = [float(value) if numpy.isfinite(value) else None for value in values]
        return numbers[0] if len(numbers) == 1 else numbers

    if isinstance(space, spaces.Dict):
        subspaces = {key: described(part, most_bounds) for key, part in space.spaces.items()}
        return {"type": "Dict", "subspaces": subspaces}
    if isinstance(space, spaces.Tuple):
        return {"type": "Tuple", "subspaces": [described(part, most_bounds) for part in space.spaces]}
    if isinstance(space, spaces.Box):
        bounds = {"low": bound(space.low, numpy.min), "high": bound(space.high, numpy.max)}
        return {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape), **bounds}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "n": list(space.shape)}
    if is_text(space):
        lengths = {"max_length": getattr(space, "max_length", LONGEST_TEXT), "min_length": getattr(space, "min_length", 0)}
        return {"type": "Text", **lengths, "charset": "".join(characters(space))}
    return {"type": "Other", "repr": repr(space)[:200]}


def is_text(space):
    """Whether values are strings: Gymnasium's Text, and spaces of others', such as MiniGrid's missions."""
    return space.dtype is not None and space.dtype.kind == "U"


def characters(space):
    """Those of a text, in the order of their numbers."""
    return getattr(space, "character_list", string.printable)


class Actions:
    """Rows of numbers as an environment's own actions: whole ones are counted from their space's first on."""

    def __init__(self, space):
        from gymnasium import spaces

        self.space, self.first = space, 0
        self.is_float = isinstance(space, spaces.Box) and space.dtype.kind == "f"
        if isinstance(space, spaces.Box):
            self.first = space.low
        elif isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
            self.first = space.start

    def of(self, rows):
        """Copies in the space's own type, because an environment may keep what it is given. A bound that is no
        float32 is one in the space's type, so what lies at it is cut there."""
        shape = (len(rows), *self.space.shape)
        if self.is_float:
            actions = rows.astype(self.space.dtype).reshape(shape)
            return actions.clip(self.space.low, self.space.high, out=actions)
        return (rows.astype(int).reshape(shape) + self.first).astype(self.space.dtype)


class Part:
    """A space without parts of its own inside an observation's, and its columns of the row."""

    def __init__(self, space, path, start):
        import numpy
        from gymnasium import spaces

        # The keys that lead to it.
        self.path, self.shape = path, space.shape
        # Of one-hot numbers, the first value of each and its place; of a text, each character's number.
        self.one_hot = self.numbers = None
        width = int(numpy.prod(space.shape or (1,)))
        if isinstance(space, spaces.Discrete):
            width, self.one_hot = int(space.n), (int(space.start), 0)
        elif isinstance(space, spaces.MultiDiscrete):
            counts = space.nvec.ravel()
            places = numpy.concatenate([[0], numpy.cumsum(counts)[:-1]])
            width, self.one_hot = int(counts.sum()), (space.start.ravel(), places)
        elif is_text(space):
            width = getattr(space, "max_length", LONGEST_TEXT)
            self.numbers = {character: number for number, character in enumerate(characters(space))}
        self.columns = slice(start, start + width)

    def of(self, shown):
        for key in self.path:
            shown = shown[key]
        return shown

    def write(self, shown, row):
        import numpy

        part, columns = self.of(shown), row[self.columns]
        if self.one_hot is not None:
            first, places = self.one_hot
            columns[:] = 0
            columns[places + numpy.asarray(part, int).ravel() - first] = 1
        elif self.numbers is not None:
            if len(part) > len(columns):
                raise ValueError(f"a text has {len(part)} characters, expected at most {len(columns)}")
            if unknown := set(part) - self.numbers.keys():
                raise ValueError(f"a text has {min(unknown)!r}, expected characters of its space")
            columns[:] = len(self.numbers)
            columns[: len(part)] = [self.numbers[character] for character in part]
        else:
            part = numpy.asarray(part)
            if part.shape != self.shape:
                raise ValueError(f"an observation has shape {part.shape}, and {self.shape} is its space's")
            columns[:] = part.ravel()

    def write_batch(self, shown, rows):
        import numpy

        part, columns = self.of(shown).reshape(len(rows), -1), rows[:, self.columns]
        if self.one_hot is not None:
            first, places = self.one_hot
            columns[numpy.arange(len(rows))[:, None], places + part - first] = 1
        else:
            columns[:] = part


class Observation:
    """Flattens what an environment shows into a row, as `gymnasium.spaces.flatten` does."""

    def __init__(self, space):
        import numpy
        from gymnasium import spaces

        self.numpy = numpy
        self.parts, self.width = [], 0
        # The part that is an image, and whether its channels come last.
        self.image = None

        def add(space, path):
            if isinstance(space, (spaces.Dict, spaces.Tuple)):
                parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
                for key, part in parts:
                    add(part, (*path, key))
                return
            flat = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
            if isinstance(space, flat) or is_text(space):  # eva-rl refuses any other
                self.parts.append(Part(space, path, self.width))
                self.width = self.parts[-1].columns.stop

        add(space, ())

    def keep_apart(self, image):
        """Takes a part out of the rows, whose columns close up, because its bytes have rows of their own."""
        if image is None:
            return
        apart = self.parts.pop(image["leaf"])
        self.image = (apart, image["channels_last"])
        gap = apart.columns.stop - apart.columns.start
        self.width -= gap
        for part in self.parts[image["leaf"] :]:
            part.columns = slice(part.columns.start - gap, part.columns.stop - gap)

    def pixels(self, shown):
        """The images of an observation, or of a batch of them, channels first."""
        part, channels_last = self.image
        shown = self.numpy.asarray(part.of(shown))
        if shown.shape[-3:] != part.shape or shown.dtype != self.numpy.uint8:
            found = f"shape {shown.shape} and type {shown.dtype}"
            raise ValueError(f"an image has {found}, expected {part.shape} and uint8, as its space says")
        return self.numpy.moveaxis(shown, -1, -3) if channels_last else shown

    def write(self, shown, row, pixels):
        """One observation into its row, and its image."""
        if self.image:
            pixels[:] = self.pixels(shown)
        for part in self.parts:
            part.write(shown, row)

    def rows(self, shown, count):
        """A batch of observations as rows."""
        if len(self.parts) == 1 and not self.parts[0].path and self.parts[0].one_hot is None:
            return shown.reshape(count, self.width)
        rows = self.numpy.zeros((count, self.width), self.numpy.float32)
        for part in self.parts:
            part.write_batch(shown, rows)
        return rows


def frame(pixels):
    """Width, height and bytes of an RGB picture."""
    import numpy

    if pixels is None:
        raise ValueError("it draws nothing")
    pixels = numpy.ascontiguousarray(pixels)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != numpy.uint8:
        raise ValueError(f"a picture has shape {pixels.shape} and type {pixels.dtype}, and it is no RGB")
    height, width, _ = pixels.shape
    return struct.pack("<II", width, height) + pixels.tobytes()


main()
