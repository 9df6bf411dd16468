"""Admin actions: shown before they are made, made once, and in the history with the key's name."""

import asyncio

import pytest
import pytest_asyncio

from deployments.records.records import PolicyEvent
from tests.serve_app.dashboard.served import ADMIN, Served

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(pool):
    await pool.add("tiny")
    await pool.add("other")
    await pool.table.policy_event(PolicyEvent(1, 1.0, "trained", {"items": 100}))
    made = Served(pool)
    pool.client.headers["authorization"] = f"Bearer {ADMIN}"
    await made.start(reading=False)
    await made.read()
    yield made
    await made.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def page(served):
    async with served.client(ADMIN) as made:
        await made.sign_in()
        yield made


async def act(page, action, **body):
    return await page.post(f"/dashboard/api/operate/{action}", json=body)


async def state(page):
    return (await page.get("/dashboard/api/operate")).json()


@pytest.mark.parametrize(
    ("action", "body", "what", "before", "after", "row"),
    [
        ("pause", {}, "paused", "no", "yes", "paused priced"),
        ("resume", {}, "paused", "yes", "no", "resumed priced"),
        ("promote", {"version": 1}, "active", "priced", "learned@1", "promoted learned@1"),
        ("rollback", {}, "active", "learned@1", "priced", "rolled_back learned@1"),
    ],
)
async def test_a_rollout_is_shown_then_made_then_recorded(
    served, page, action, body, what, before, after, row
):
    state_before = await served.pool.table.rollout()
    shown = (await act(page, action, **body)).json()
    assert {"what": what, "before": before, "after": after} in shown["changes"]
    assert shown["done"] is False
    assert await served.pool.table.rollout() == state_before
    made = (await act(page, action, **body, confirm=True)).json()
    assert made["done"] is True
    newest = (await state(page))["history"][0]
    assert (newest["who"], newest["what"]) == ("boss", row)


async def test_what_cannot_be_done_changes_nothing_and_says_why(page):
    refused = await act(page, "promote", version=7, confirm=True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "nothing_changed")
    assert "Known: 1" in refused.json()["error"]["message"]
    assert (await act(page, "promote", version="7")).json()["error"]["param"] == "version"
    assert (await act(page, "destroy")).status_code == 404


async def test_weights_change_live_and_the_plan_sees_what_they_were(served, page):
    weights = {"accuracy": 5, "latency": 0, "cost": 1}
    shown = (await act(page, "weights", profile="customer-service", **weights)).json()
    path = "dispatch.profiles.customer-service.weights"
    assert {"what": f"{path}.accuracy", "before": "2", "after": "5.0"} in shown["changes"]
    assert served.serve.applied == []
    assert (await act(page, "weights", profile="customer-service", **weights, confirm=True)).json()["done"]
    assert served.serve.applied == ["boss"]
    assert (await state(page))["profiles"]["customer-service"] == weights
    assert (await state(page))["history"][0]["who"] == "boss"
    profile = served.pool.ingress.dispatcher.profile("auto:customer-service")
    assert profile.weights.accuracy == 5.0
    assert (await act(page, "weights", profile="customer-service", **weights)).json()["changes"] == []


@pytest.mark.parametrize(
    "wrong", [{"accuracy": -1}, {"accuracy": "2"}, {"accuracy": 101}, {"accuracy": True}, {"profile": "gone"}]
)
async def test_wrong_weights_are_refused(page, wrong):
    body = {"profile": "", "accuracy": 1, "latency": 1, "cost": 0} | wrong
    assert (await act(page, "weights", **body, confirm=True)).status_code == 400


async def test_weights_that_are_all_0_are_refused_by_the_pools_own_rule(page):
    refused = await act(page, "weights", profile="", accuracy=0, latency=0, cost=0, confirm=True)
    assert refused.status_code == 400
    assert "at least one" in refused.json()["error"]["message"]


async def test_a_drained_model_gets_no_request_until_it_serves_again(served, page):
    await act(page, "drain", model="tiny", confirm=True)
    assert (await state(page))["models"] == {"other": False, "tiny": True}
    refused = await served.pool.chat("tiny")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_drained")
    answers = await asyncio.gather(*(served.pool.chat("auto", f"Hello {n}") for n in range(8)))
    assert {one.headers["x-fastserve-model"] for one in answers} == {"other"}
    await act(page, "undrain", model="tiny", confirm=True)
    assert (await served.pool.chat("tiny")).status_code == 200
    assert [one["what"] for one in (await state(page))["history"][:2]] == [
        "dashboard: undrain 'tiny'",
        "dashboard: drain 'tiny'",
    ]
