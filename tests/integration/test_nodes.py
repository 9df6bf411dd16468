"""Several nodes, as `scripts/bench.py nodes` tries them: one key, one node is killed, another one joins."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.integration
@pytest.mark.long
@pytest.mark.timeout(900)
def test_nothing_depends_on_which_node_a_process_is_on(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/bench.py", "nodes", "--json", str(tmp_path / "nodes.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
