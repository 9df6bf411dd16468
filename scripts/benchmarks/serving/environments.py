"""Commands of other packages, each in a virtual environment of its own that is made at the first run."""

import subprocess
import sys
from pathlib import Path


def installed(venv: Path, package: str, command: str) -> str:
    """Path of `command` in the environment; `package` is installed there where the command is missing."""
    path = venv / "bin" / command
    if not path.exists():
        print(f"== installing {package} into {venv}")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin" / "pip"), "install", "-q", package], check=True)
    return str(path)
