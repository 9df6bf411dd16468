"""Prometheus and promtool as scripts/install_prometheus.sh leaves them; a test without them is skipped."""

import os
import shutil
import sys
from pathlib import Path

import pytest


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which(name, path=places)
    if found is None:
        pytest.skip(f"No '{name}' on this machine: scripts/install_prometheus.sh says why.")
    return found
