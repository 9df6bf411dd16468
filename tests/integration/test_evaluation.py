"""Evaluation on a real cluster: kills in the middle, every item counts once; the command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.evaluation.report import summarise
from deployments.learning.quality_fit import TASK
from deployments.records.records import EvaluationRecord
from tests.integration.running import with_app

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ITEMS = 120


def suite_file(folder: Path) -> Path:
    """Items of two tasks with graders that a canned text can pass or fail."""
    rows = [
        {
            "id": f"i{n}",
            "task": "any" if n % 2 else "none",
            "prompt": f"Question {n}: say something.",
            "answer": r"\w" if n % 2 else "no canned text says this",
            "grader": "regex" if n % 2 else "contains",
            "max_tokens": 12,
        }
        for n in range(ITEMS)
    ]
    path = folder / "canned.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def with_evaluator(cluster: Any, suite: Path, **pace: Any) -> dict[str, Any]:
    """The cluster's config and an evaluator of that suite."""
    config = {
        "suites": [str(suite)],
        "models": ["alpha", "beta"],
        "interval_s": 1.0,
        "pace": {"concurrency": 2, **pace},
        "fit": {"nice": 0},
    }
    return with_app(cluster.base, "Evaluator", config)


def answers(cluster: Any) -> list[EvaluationRecord]:
    records: list[EvaluationRecord] = cluster.table("evaluations", "canned", None)
    return records


def reached(cluster: Any, count: int) -> Callable[[], bool]:
    return lambda: len(answers(cluster)) >= count


def fits_shown() -> list[Any]:
    """The CPUs of the fits, as Ray's dashboard has them from its state API; each different one once."""
    from ray.util.state import list_tasks

    found = list_tasks(filters=[("name", "=", TASK)], detail=True, limit=1000)
    cpus = [task.required_resources for task in found]
    return [one for at, one in enumerate(cpus) if one not in cpus[:at]]


def test_kills_in_the_middle_leave_every_item_answered_once(restored: Any, tmp_path: Path) -> None:
    restored.deploy(with_evaluator(restored, suite_file(tmp_path), user_share=1.0))
    restored.wait_for(reached(restored, 20))
    os.kill(next(iter(restored.pids("evaluator", "Evaluator").values())), signal.SIGKILL)
    restored.wait_for(reached(restored, 60))
    os.kill(restored.table_pid(), signal.SIGKILL)
    restored.wait_for(reached(restored, 100))
    os.kill(next(iter(restored.pids("model-beta", "Model").values())), signal.SIGKILL)
    restored.wait_for(reached(restored, 2 * ITEMS))
    counts = Counter((r.item, r.model) for r in answers(restored))
    assert len(counts) == 2 * ITEMS
    assert set(counts.values()) == {1}
    cells = {(c.task, c.model): c.accuracy for c in summarise(answers(restored))}
    assert cells["any", "alpha"] == cells["any", "beta"] == 1.0
    assert cells["none", "alpha"] == cells["none", "beta"] == 0.0
    restored.wait_for(lambda: {"quality", "evaluation"} <= set(restored.snapshot().artifacts))
    restored.wait_for(lambda: fits_shown() == [{"CPU": 0.01}])
    asked_once = len(answers(restored))
    time.sleep(2.5)
    assert len(answers(restored)) == asked_once


def test_the_command_evaluates_resumes_and_writes_json(cluster: Any, tmp_path: Path) -> None:
    import ray

    suite = suite_file(tmp_path).rename(tmp_path / "command.jsonl")
    address = ray.get_runtime_context().gcs_address
    main = "import sys; from serve_app.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "evaluate", "--suite", str(suite), "--url", cluster.url]
    command += ["--address", address, "--models", "alpha,beta"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "alpha - beta" in done.stdout
    assert f"{2 * ITEMS}/{2 * ITEMS}" in done.stderr
    again = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, timeout=120, env=dict(os.environ)
    )
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert {c["items"] for c in report["cells"] if c["task"] == "all"} == {ITEMS}
    unknown = subprocess.run([*command[:-1], "nobody"], capture_output=True, text=True, timeout=120)
    assert unknown.returncode == 1
    assert "Model 'nobody' is not in the pool." in unknown.stderr
