"""Models of the config that have not begun: 503 with a time to come back, not 404."""

import asyncio
from dataclasses import replace

import pytest

from serve_app.routes.configured import ConfiguredModels

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_apps_are_asked_for_and_kept_while_nobody_answers():
    answers = [frozenset({"model-cold", "model-org--cold", "fastserve"})]
    configured = ConfiguredModels(lambda: answers.pop())
    assert "cold" not in configured
    for _ in range(2):  # the second question fails
        await configured.refresh()
        assert "cold" in configured
        assert "org/cold" in configured
        assert "other" not in configured


async def test_a_cold_model_answers_503_with_retry_after(pool, monkeypatch):
    await pool.add("warm")
    configured = pool.ingress._configured
    monkeypatch.setattr(configured, "_names", frozenset({"model-cold", "model-warm"}))
    for answer in (await pool.chat("cold"), await pool.client.get("/v1/models/cold")):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "model_unavailable")
        assert "'cold' is starting" in error["message"]
        assert int(answer.headers["retry-after"]) > 0
    assert (await pool.chat("nobody")).status_code == 404
    assert (await pool.chat("warm")).status_code == 200
    both = await pool.chat("auto", fastserve={"models": ["cold", "warm"]})
    assert both.headers["x-fastserve-model"] == "warm"
    alone = await pool.chat("auto", fastserve={"models": ["cold"]})
    assert (alone.status_code, alone.headers["retry-after"]) == (503, "10")


async def test_a_model_with_neither_app_nor_replica_leaves_the_table(pool, monkeypatch):
    """Its last replica crashed, so that nothing took it out when its app was deleted."""
    configured, view = pool.ingress._configured, pool.ingress.view
    await pool.add("alive")
    card = view.snapshot.models["alive"].card
    for name in ("lost", "starting"):
        await pool.table.register_model(replace(card, model=name))
    while "starting" not in view.snapshot.models:
        await asyncio.sleep(0.02)
    monkeypatch.setattr(configured, "_names", frozenset())  # Serve has not answered yet
    await pool.ingress._retire(view.snapshot)
    monkeypatch.setattr(configured, "_names", frozenset({"fastserve", "model-starting"}))
    assert "lost" in view.snapshot.models
    await pool.ingress._retire(view.snapshot)
    while "lost" in view.snapshot.models:
        await asyncio.sleep(0.02)
    assert {"alive", "starting"} <= set(view.snapshot.models)
