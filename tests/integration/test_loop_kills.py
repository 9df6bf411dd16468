"""The loop on a real cluster: each of its processes killed at each step, and a policy that turns bad.

Users ask `auto` all the while and vote on each answer. None of them may notice, and what was acknowledged
is counted once.
"""

import contextlib
import copy
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.learning.quality_fit import TASK
from policies.decider import version_name
from tests.integration.running import Cluster, with_app
from tests.integration.task_work import running
from tests.integration.users import Users

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(1_800)]

ITEMS = 120
JOBS = ("train-candidate", "judge-candidate")  # tasks of the Learner
PATIENCE_S = 300.0  # for each condition: however busy the machine is, the order of the steps is what counts
QUESTIONS = tuple(f"Question {number}: say something." for number in range(ITEMS))
YES, NO = "That is right, as far as anybody can say.", "Nobody can say, and I cannot say so either."
WRONG = {"alpha": (0,), "beta": (1, 2)}  # last digits of the questions that a model answers wrongly

LEARNER = {
    "watch_s": 0.5,
    "look_s": 1.0,
    "retry_s": 1.0,
    "latency_every_s": 5.0,
    "settle_s": 1.0,
    "votes_s": 2.0,
    "retrain_s": 30.0,
    "training": {
        "decisions": 10_000, "environments": 8, "hidden": 8, "episodes": 2, "episode_requests": 60,
    },
    # what is learned in so short a time is hardly better, or hardly worse: here it is the way of a version
    # that counts. At the usual level nothing is refused for a loss that nobody can tell from none.
    "gates": {
        "min_items": 10, "paired_margin": 1.0, "slice_margin": 1.0, "simulator_margin": 1.0,
        "off_policy_margin": 1.0, "min_effective_sample_size": 1.0, "max_unsupported": 1.0,
        "min_gain": -1.0,
    },
    "canary": {
        "ladder": [0.25, 0.5], "min_requests": 10, "min_step_s": 3.0, "shadow_requests": 10, "margin": 0.14,
        "min_slice_s": 2.0, "slice_latencies": 1.0, "slice_requests": 1,
    },
    "alarms": {"yardstick_share": 0.2, "false_alarm_every": 1000.0, "late_margin": 0.5},
}  # fmt: skip


def suite_file(folder: Path) -> Path:
    """Every question, with the answer that counts as right."""
    path = folder / "kills.jsonl"
    limit = {"max_tokens": 12}
    rows = [
        {"id": f"i{n}", "task": "any", "prompt": one, "answer": "right", "grader": "contains", **limit}
        for n, one in enumerate(QUESTIONS)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def with_answers(base: dict[str, Any]) -> dict[str, Any]:
    """The config with models that are usually right."""
    changed = copy.deepcopy(base)
    for app in changed["applications"]:
        wrong = WRONG.get(app["args"].get("id", ""))
        if wrong is not None:
            answers = {one: NO if n % 10 in wrong else YES for n, one in enumerate(QUESTIONS)}
            app["args"]["simulated"]["answers"] = answers
    return changed


def with_evaluator(base: dict[str, Any], url: str, suite: Path) -> dict[str, Any]:
    """The config with an evaluator."""
    evaluator = {
        "endpoint": url,
        "suites": [str(suite)],
        "models": ["alpha", "beta"],
        "interval_s": 1.0,
        "pace": {"concurrency": 1, "user_share": 1.0, "give_way": False},
        "fit": {"nice": 0, "votes_every_s": 3600.0},
    }
    return with_app(base, "Evaluator", evaluator)


@contextlib.contextmanager
def told(loop: Cluster) -> Iterator[None]:
    """Prints the life of every version where the block fails."""
    try:
        yield
    except BaseException:
        for event in loop.table("policy_events"):
            print(event)
        raise


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_kills_at_every_step_and_a_bad_policy(restored: Cluster, tmp_path: Path) -> None:
    loop = restored
    answering = with_answers(loop.base)
    loop.deploy(answering)
    with Users(loop, QUESTIONS) as users, told(loop):
        evaluating = with_evaluator(answering, loop.url, suite_file(tmp_path))
        loop.deploy(evaluating, wait=False)
        kill_while_evaluating(loop)
        kill_while_fitting(loop)
        learning = with_app(evaluating, "Learner", LEARNER)  # only now: no training may be missed
        loop.deploy(learning, wait=False)
        kill_while_training(loop)
        kill_while_on_trial(loop)
        version = loop.state().active
        loop.wait_for(lambda: version_name(version) in users.deciding(), PATIENCE_S)
        time.sleep(5.0)
        assert loop.state().active == version
        users.score = 0.0  # from now on nobody likes its answers
        took_s = loop.wait_for(lambda: loop.state().active is None, PATIENCE_S)
        loop.wait_for(lambda: users.deciding() == {"priced"}, PATIENCE_S)
    assert users.failed == []
    last = loop.table("policy_events")[-1]
    assert last.kind == "rolled_back"
    assert str(last.detail["reason"]).startswith("reward")
    print(f"{len(users.answered)} requests; rolled back after {took_s:.1f} s")
    users.require_counted_once(PATIENCE_S)
    counted_once(loop)


def kill_while_evaluating(loop: Cluster) -> None:
    loop.wait_for(lambda: len(loop.table("evaluations", "kills", None)) >= 20, PATIENCE_S)
    kill(next(iter(loop.pids("evaluator", "Evaluator").values())))
    loop.wait_for(lambda: len(loop.table("evaluations", "kills", None)) >= 100, PATIENCE_S)
    kill(loop.table_pid())
    loop.wait_for(lambda: len(loop.table("evaluations", "kills", None)) == 2 * ITEMS, PATIENCE_S)


def kill_while_fitting(loop: Cluster) -> None:
    loop.wait_for(lambda: bool(running(TASK)), PATIENCE_S)
    before = loop.snapshot().artifacts.get("quality")
    kill(running(TASK)[0])
    loop.wait_for(lambda: loop.snapshot().artifacts.get("quality") != before, PATIENCE_S)


def kill_while_training(loop: Cluster) -> None:
    loop.wait_for(lambda: bool(running(*JOBS)), PATIENCE_S)
    killed = running(*JOBS)
    kill(killed[0])
    loop.wait_for(lambda: bool(set(running(*JOBS)) - set(killed)), PATIENCE_S)
    time.sleep(3.0)
    orphan = running(*JOBS)
    kill(next(iter(loop.pids("learner", "Learner").values())))
    loop.wait_for(lambda: not set(orphan) & set(running(*JOBS)), PATIENCE_S)
    loop.wait_for(lambda: loop.state().candidate is not None, PATIENCE_S)


def kill_while_on_trial(loop: Cluster) -> None:
    kill(loop.table_pid())
    loop.wait_for(lambda: on_trial(loop, "canary", 0.25), PATIENCE_S)
    kill(next(iter(loop.pids("learner", "Learner").values())))
    loop.wait_for(lambda: on_trial(loop, "canary", 0.5), PATIENCE_S)
    kill(loop.table_pid())
    loop.wait_for(lambda: loop.state().active is not None, PATIENCE_S)


def on_trial(loop: Cluster, stage: str, share: float) -> bool:
    candidate = loop.state().candidate
    return candidate is not None and (candidate.stage, candidate.share) == (stage, share)


def counted_once(loop: Cluster) -> None:
    """Every question of the suite was graded once, and each stored outcome is in the statistics."""
    answers = Counter((record.item, record.model) for record in loop.table("evaluations", "kills", None))
    assert len(answers) == 2 * ITEMS
    assert set(answers.values()) == {1}
    status = loop.table("status")
    counted = sum(sum(by_status.values()) for by_status in status["statuses"].values())
    assert counted == status["store"]["rows"]["outcomes"]
