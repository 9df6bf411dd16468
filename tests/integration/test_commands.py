"""The commands on a running cluster: a plan, a deployment that goes back, the history, a rollback."""

import copy
import json
from pathlib import Path

import pytest

from serve_app.console.errors import FAILED, REFUSED, UNCONFIRMED
from tests.integration.console import Console
from tests.integration.running import Cluster

pytestmark = pytest.mark.integration


@pytest.mark.timeout(900)
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
    restored.wait_for(lambda: "gamma" in restored.served())

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
    restored.wait_for(lambda: "gamma" not in restored.served())
