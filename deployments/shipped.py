"""Files that come with FastServe: built-in weights, suites and configs, in a checkout or an installed wheel.

`python -m deployments.shipped NAME` prints where one is, such as `scripts/install_cpu_engine.sh`.
"""

import sys
from pathlib import Path
from typing import Final

_INSTALLED: Final = Path(__file__).resolve().parent / "data"  # setup.py puts them here
_CHECKOUT: Final = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """Where the file or folder is that a checkout has at `name`, below its root."""
    installed = _INSTALLED / name
    return installed if installed.exists() else _CHECKOUT / name


def found(name: str) -> Path:
    """The path as given; the shipped file of that name where the working folder has none."""
    path = Path(name).expanduser()
    return shipped(name) if not path.exists() and shipped(name).exists() else path


if __name__ == "__main__":
    print(shipped(sys.argv[1]))
