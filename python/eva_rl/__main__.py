"""`python -m eva_rl`: the program `eva-rl`, where it is installed."""

import os
import shutil
import sys
from pathlib import Path


def program() -> str | None:
    """Where the program is: beside this Python, or on the PATH."""
    beside = shutil.which("eva-rl", path=str(Path(sys.executable).parent))
    return beside or shutil.which("eva-rl")


def main() -> None:
    found = program()
    if found is None:
        sys.exit(
            "there is no program `eva-rl` on the PATH, expected one: `make install` in the repository of eva-rl "
            "builds it and puts it there"
        )
    os.execv(found, [found, *sys.argv[1:]])


if __name__ == "__main__":
    main()
