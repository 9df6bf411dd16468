"""The commands on a running cluster: a plan, a deployment that goes back, the history, a rollback."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.console.errors import FAILED, REFUSED, UNCONFIRMED
from tests.integration.running import Cluster

pytestmark = pytest.mark.integration


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


@pytest.mark.timeout(400)
def test_a_file_is_planned_deployed_taken_back_and_rolled_back(restored: Cluster, tmp_path: Path) -> None:
    console, before = Console(tmp_path), restored.base
    more = restored.with_model("gamma")

    planned = console.run("plan", "--json", config=more)
    assert planned.returncode == 0, planned.stderr
    assert [(one["kind"], one["subject"]) for one in json.loads(planned.stdout)["changes"]] == [
        ("added", "model-gamma")
    ]
    assert console.run("deploy", config=more).returncode == UNCONFIRMED
    empty = {**before, "applications": []}
    refused = console.run("deploy", "--yes", config=empty)
    assert refused.returncode == FAILED
    assert "--allow-delete" in refused.stderr
    broken = copy.deepcopy(more)
    broken["applications"][-1]["args"]["contxt_tokens"] = 1
    assert console.run("deploy", "--yes", config=broken).returncode == REFUSED
    assert "gamma" not in restored.served()

    done = console.run("deploy", "--yes", config=more)
    assert done.returncode == 0, done.stderr
    restored.wait_for(lambda: "gamma" in restored.served(), 30.0)

    crashing = copy.deepcopy(more)
    crashing["applications"][-1]["args"] |= {
        "engine": "openai",
        "simulated": None,
        "upstream": {"base_url": "http://127.0.0.1:9/v1", "key_env": "FASTSERVE_NO_SUCH_KEY"},
    }
    failed = console.run("deploy", "--yes", config=crashing)
    assert failed.returncode == FAILED, failed.stderr
    assert "model-gamma" in failed.stderr
    assert "applied again and runs" in failed.stderr

    listed = json.loads(console.run("history", "--json").stdout)
    assert [(one["what"], one["healthy"]) for one in listed[-3:]] == [
        ("found running", True),
        ("deploy", True),
        ("deploy", False),
    ]
    back = console.run("rollback", str(listed[-3]["number"]), "--yes")
    assert back.returncode == 0, back.stderr
    restored.wait_for(lambda: "gamma" not in restored.served(), 60.0)
