"""SIGTERM to each kind of process under load: streams end, and what was acknowledged is there."""

import os
import signal
import time
from typing import Any

import psutil
import pytest

from tests.integration.running import Cluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


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
