"""Print EnvPool's ids of Meta-World's fifty tasks. Run it with the Python of `make bridge`."""

import contextlib
import sys

with contextlib.redirect_stdout(sys.stderr):  # EnvPool says what it could not import
    import envpool

for task in envpool.list_all_envs():
    if task.startswith("MetaWorld/") and task.endswith("-v3"):
        print(task)
