"""The command line as tests of a running cluster use it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml


class Console:
    """Runs commands against the cluster as an operator does."""

    def __init__(self, folder: Path) -> None:
        import ray

        self._file = folder / "cluster.yaml"
        self._address = ray.get_runtime_context().gcs_address

    def run(self, *words: str, config: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """What a command printed and its exit code; `config` is the file that it takes."""
        command = [sys.executable, "-m", "serve_app", *words, "--address", self._address]
        if config is not None:
            self._file.write_text(yaml.safe_dump(config))
            command.append(str(self._file))
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
