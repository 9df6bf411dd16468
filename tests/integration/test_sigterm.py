"""SIGTERM to each kind of process under load: streams end, and what was acknowledged is there."""

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.running import KEY, PATIENCE_S, Cluster, with_app
from tests.integration.task_work import running
from tests.integration.users import Users

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def _counted(cluster: Cluster) -> int:
    statuses: dict[str, dict[str, int]] = cluster.table("status")["statuses"]
    return sum(sum(of_model.values()) for of_model in statuses.values())


def _settled(cluster: Cluster) -> int:
    """Outcomes that are stored, once ingress replicas have reported all."""
    counts = [-1]

    def is_settled() -> bool:
        time.sleep(1.5)
        counts.append(_counted(cluster))
        return counts[-2] == counts[-1]

    cluster.wait_for(is_settled)
    return counts[-1]


@pytest.mark.parametrize(("app", "deployment"), [("model-alpha", "Model"), ("fastserve", "Ingress")])
def test_a_replica_that_gets_sigterm_ends_its_streams(
    cluster: Cluster, load: Any, app: str, deployment: str
) -> None:
    """Answers of some seconds are under way when it comes, and others go on to come."""
    before, pids = _settled(cluster), cluster.pids(app, deployment)
    replica, victim = next(iter(pids.items()))
    with load(cluster, ["alpha", "auto"], 6, max_tokens=300) as running:
        running.until(6)
        os.kill(victim, signal.SIGTERM)
        cluster.wait_for(lambda: replica not in cluster.pids(app, deployment))
        cluster.wait_for(lambda: len(cluster.pids(app, deployment)) == len(pids))
    failed = [
        (a.model, a.stream, a.status, a.took_s, a.text[-300:]) for a in running.answers if not a.is_whole
    ]
    assert failed == []
    cluster.wait_for(lambda: _counted(cluster) - before >= len(running.answers))
    assert _settled(cluster) - before == len(running.answers)


def test_a_table_that_gets_sigterm_comes_back_with_all_that_it_acknowledged(
    cluster: Cluster, load: Any
) -> None:
    before, boot = _settled(cluster), cluster.table("status")["boot_id"]
    with load(cluster, ["alpha", "auto"], 6, max_tokens=8) as running:
        running.until(10)
        os.kill(cluster.table_pid(), signal.SIGTERM)
        cluster.wait_for(lambda: cluster.table("status")["boot_id"] != boot)
    assert [answer for answer in running.answers if not answer.is_whole] == []
    cluster.wait_for(lambda: _counted(cluster) - before >= len(running.answers))
    assert _settled(cluster) - before == len(running.answers)


def test_a_proxy_that_gets_sigterm_serves_on(cluster: Cluster, load: Any) -> None:
    """Serve ends it by other signals; an ingress replica behind it is what drains."""
    proxies = [one for one in psutil.Process().children(recursive=True) if one.name() == "haproxy"]
    assert proxies
    with load(cluster, ["alpha", "auto"], 6, max_tokens=100) as running:
        running.until(6)
        for one in proxies:
            one.send_signal(signal.SIGTERM)
        running.until(len(running.answers) + 20)
    assert [answer for answer in running.answers if not answer.is_whole] == []
    assert [one.pid for one in proxies if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


ITEMS = 60
QUESTIONS = tuple(f"Question {number}: say something." for number in range(ITEMS))
# Training that is over soon, and gates that no candidate passes.
LEARNER = {
    "look_s": 1.0,
    "retry_s": 1.0,
    "training": {
        "decisions": 20_000, "environments": 8, "hidden": 8, "episodes": 2, "episode_requests": 60,
    },
    "gates": {"min_items": 1_000_000},
}  # fmt: skip


@contextlib.contextmanager
def acknowledged(cluster: Cluster) -> Iterator[Users]:
    """Users who ask and vote meanwhile: nobody is failed, and the log holds what was acknowledged."""
    with Users(cluster, QUESTIONS) as users:
        yield users
    assert users.failed == []
    users.require_counted_once(PATIENCE_S)


def evaluator_of(folder: Path) -> dict[str, Any]:
    """Settings of an evaluator that asks every question of both models."""
    rows = [
        {"id": f"i{n}", "task": "any", "prompt": one, "answer": r"\w", "grader": "regex", "max_tokens": 12}
        for n, one in enumerate(QUESTIONS)
    ]
    path = folder / "sigterm.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    pace = {"concurrency": 1, "user_share": 1.0, "give_way": False}
    models = ["alpha", "beta"]
    return {"suites": [str(path)], "models": models, "interval_s": 1.0, "pace": pace, "fit": {"nice": 0}}


def replaced(cluster: Cluster, app: str, deployment: str) -> None:
    """SIGTERM to the one replica of a deployment, which comes back as another process."""
    (victim,) = cluster.pids(app, deployment).values()
    os.kill(victim, signal.SIGTERM)
    cluster.wait_for(lambda: victim not in cluster.pids(app, deployment).values())
    cluster.wait_for(lambda: len(cluster.pids(app, deployment)) == 1)


def test_an_evaluator_and_a_learner_that_get_sigterm_go_on_where_they_were(
    restored: Cluster, tmp_path: Path
) -> None:
    evaluating = with_app(restored.base, "Evaluator", evaluator_of(tmp_path))

    def graded() -> Counter[tuple[str, str]]:
        return Counter((one.item, one.model) for one in restored.table("evaluations", "sigterm", None))

    def trained() -> int:
        return sum(event.kind == "trained" for event in restored.table("policy_events"))

    with acknowledged(restored):
        restored.deploy(evaluating, wait=False)
        restored.wait_for(lambda: len(graded()) >= 10)
        replaced(restored, "evaluator", "Evaluator")
        restored.wait_for(lambda: len(graded()) == 2 * ITEMS)
        assert set(graded().values()) == {1}
        before = trained()
        restored.deploy(with_app(evaluating, "Learner", LEARNER), wait=False)
        restored.wait_for(lambda: bool(running("train-candidate")))
        orphans = running("train-candidate")
        replaced(restored, "learner", "Learner")
        restored.wait_for(lambda: not set(orphans) & set(running("train-candidate")))
        restored.wait_for(lambda: trained() > before, 2 * PATIENCE_S)
    restored.deploy(restored.base)  # the candidate is taken off when nobody holds it any more
    restored.table("set_rollout", replace(restored.state(), candidate=None))


def test_a_dashboard_that_gets_sigterm_ends_its_streams_and_comes_back(cluster: Cluster) -> None:
    headers = {"sec-fetch-site": "same-origin"}
    with (
        httpx.Client(base_url=cluster.url, headers=headers, timeout=PATIENCE_S, trust_env=False) as page,
        acknowledged(cluster),
    ):
        cluster.wait_for(lambda: page.post("/dashboard/sign-in", json={"key": KEY}).status_code == 200)
        with page.stream("GET", "/dashboard/api/stream?topics=status,now") as answer:
            lines = answer.iter_lines()
            assert any(line == "event: now" for line in lines)
            (victim,) = cluster.pids("dashboard", "Dashboard").values()
            os.kill(victim, signal.SIGTERM)
            assert "event: ended" not in list(lines), "to its end, and no browser is signed out"
        cluster.wait_for(lambda: victim not in cluster.pids("dashboard", "Dashboard").values())
        cluster.wait_for(lambda: _is_signed_in(page))


def _is_signed_in(page: httpx.Client) -> bool:
    """Whether it answers; while it is away HAProxy says 503, or closes a connection that was kept."""
    try:
        return page.get("/dashboard/api/now").status_code == 200
    except httpx.RemoteProtocolError:
        return False
