"""What the views get, over a simulated pool with real requests, and that no prompt is among it."""

import asyncio

import pytest
import pytest_asyncio

from deployments.dispatch.masks import Reason
from deployments.table.errors import TableError
from serve_app.dashboard.feed import SILENT_S
from tests.serve_app.dashboard.served import ADMIN, Served

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "zebra-canary-4711"
TEXT = f"Tell me about the {CANARY}, please"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(pool):
    price = {"prompt_usd_per_mtok": 1.0, "completion_usd_per_mtok": 2.0}
    await pool.add("tiny", context_tokens=64, accuracy_prior=0.3)
    await pool.add("large", accuracy_prior=0.8, price=price)
    made = Served(pool)
    pool.client.headers["authorization"] = f"Bearer {ADMIN}"
    await made.start(reading=False)
    for model in ("auto", "auto:customer-service", "tiny"):
        for _ in range(4):
            assert (await pool.chat(model, TEXT)).status_code == 200
    await until_logged(made, 12)
    yield made
    await made.stop()


async def until_logged(served: Served, count: int) -> None:
    for _ in range(1200):
        await served.read()
        log = served.dashboard.feed.tail.newest()
        if len(log) >= count and all(outcome is not None for _, outcome in log):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"The log has {len(log)} decisions.")


@pytest_asyncio.fixture(loop_scope="module")
async def page(served):
    async with served.client(ADMIN) as made:
        await made.sign_in()
        yield made


async def got(page, path):
    answer = await page.get(f"/dashboard/api{path}")
    assert answer.status_code == 200, answer.text
    assert CANARY not in answer.text
    return answer.json()


async def test_now_shows_each_model_and_what_today_cost(page):
    now = await got(page, "/now")
    assert [one["model"] for one in now["models"]] == ["large", "tiny"]
    assert all(one["replicas"][0]["state"] == "warm" for one in now["models"])
    assert sum(one["share"] or 0 for one in now["models"]) == pytest.approx(1.0)
    today = now["today"]
    assert today["requests"] == 8
    assert today["best_usd"] > today["cheapest_usd"] == 0.0


async def test_decisions_are_listed_newest_first_and_filtered(page):
    listed = await got(page, "/decisions")
    assert len(listed["rows"]) == listed["of"] == 12
    times = [one["at_s"] for one in listed["rows"]]
    assert times == sorted(times, reverse=True)
    assert {one["key"] for one in listed["rows"]} == {"boss"}
    profile = await got(page, "/decisions?profile=customer-service")
    assert {one["requested"] for one in profile["rows"]} == {"auto:customer-service"}
    model = await got(page, "/decisions?model=tiny&policy=named")
    assert len(model["rows"]) == 4
    assert not (await got(page, "/decisions?fallback=1"))["rows"]
    rest = await got(page, f"/decisions?before={listed['rows'][8]['id']}")
    assert [one["id"] for one in rest["rows"]] == [one["id"] for one in listed["rows"][9:]]


async def test_a_decision_opens_to_what_went_into_it(served, page):
    long = await served.pool.chat("auto", "word " * 400)
    decision_id = long.headers["x-fastserve-decision-id"]
    await until_logged(served, 13)
    opened = await got(page, f"/decisions/{decision_id}")
    tiny = next(one for one in opened["candidates"] if one["model"] == "tiny")
    large = next(one for one in opened["candidates"] if one["model"] == "large")
    assert tiny["reason"] == Reason.CONTEXT
    assert (tiny["utility"], large["probability"], opened["chosen"]) == (None, 1.0, "large")
    assert large["utility"] > 0.0
    assert large["residual"] is None, "the formula decided"
    assert opened["outcome"]["status"] == opened["status"] == "ok"
    unknown = await page.get("/dashboard/api/decisions/d-unknown")
    assert unknown.status_code == 404


async def test_other_weights_are_worked_out_by_the_policys_own_code(served, page):
    cheap = await got(page, "/counterfactual?accuracy=0&latency=0&cost=1")
    good = await got(page, "/counterfactual?accuracy=1&latency=0&cost=0")
    assert good["counts"].get("large") == good["prompts"]
    assert cheap["counts"]["tiny"] > 0
    assert good["expected"]["accuracy"] > cheap["expected"]["accuracy"]
    one = await got(page, "/counterfactual?accuracy=1&latency=0&cost=0&profile=customer-service")
    assert one["prompts"] == 4


async def test_the_trade_off_has_models_profiles_and_the_static_frontier(page):
    data = await got(page, "/trade-off")
    assert set(data["models"]) == {"large", "tiny"}
    assert [one["profile"] for one in data["profiles"]] == ["", "customer-service"]
    assert data["profiles"][1]["weights"] == {"accuracy": 2.0, "latency": 2.0, "cost": 0.0}
    frontier = data["mixes"]["cost_usd"]
    assert [one["accuracy"] for one in frontier] == sorted(one["accuracy"] for one in frontier)


async def test_a_playground_chat_streams_with_its_decision_and_a_vote_changes_a_number(served, page):
    body = {"model": "auto", "messages": [{"role": "user", "content": TEXT}], "max_tokens": 8}
    answer = await page.post("/dashboard/api/playground/chat", json=body)
    assert answer.status_code == 200, answer.text
    first = answer.text.split("\n\n")[0]
    assert first.startswith("event: decision")
    assert answer.text.count("data: ") > 3
    assert "[DONE]" in answer.text
    decision_id = first.partition('"id":"')[2].partition('"')[0]
    before = (await got(page, "/learning"))["votes"]
    await until_logged(served, 14)
    vote = {"decision_id": decision_id, "thumb": "up"}
    voted = await page.post("/dashboard/api/playground/vote", json=vote)
    assert voted.status_code == 200, voted.text
    assert (await got(page, f"/decisions/{decision_id}"))["votes"][0]["score"] == 1.0
    learning = await got(page, "/learning")
    assert learning["votes"] == before + 1
    assert learning["calibration"][0]["voted"] == 1.0
    assert learning["curve"][0]["requests"] > 0


async def test_the_playground_passes_on_refusals_and_nothing_that_it_does_not_know(page):
    body = {"model": "gone", "messages": [{"role": "user", "content": "Hi"}]}
    assert (await page.post("/dashboard/api/playground/chat", json=body)).status_code == 404
    for wrong, param in (({"max_tokens": 5000}, "max_tokens"), ({"n": 4}, "n")):
        refused = await page.post("/dashboard/api/playground/chat", json=body | wrong)
        assert refused.json()["error"]["param"] == param


async def test_a_stream_sends_what_changes_and_holds_nothing_after_its_viewer_left(served, page):
    hub = served.dashboard.desk.hub
    async with page.stream("GET", "/dashboard/api/stream?topics=status,now") as answer:
        lines = answer.aiter_lines()
        assert (await anext(lines)).startswith("retry:")
        assert hub.viewers == 1
        hub.publish("status", served.dashboard.feed.status())
        hub.publish("newest", {"decisions": 1})
        hub.publish("now", served.dashboard.feed.now())
        events = [line async for line in _some(lines, 4) if line.startswith("event: ")]
        assert events == ["event: status", "event: now"]
    while hub.viewers:
        await asyncio.sleep(0.01)


async def _some(lines, count):
    async for line in lines:
        if line and not line.startswith(":"):
            yield line
            count -= 1
        if not count:
            return


async def test_a_silent_table_is_told_and_comes_back(served, page, monkeypatch):
    feed = served.dashboard.feed
    assert (await got(page, "/session"))["status"]["silent"] is False

    async def silent(*_):
        raise TableError("The table did not answer.")

    now_s = feed.wall()
    with monkeypatch.context() as patch:
        patch.setattr(feed, "wall", lambda: now_s + SILENT_S + 1)
        patch.setattr(served.pool.table, "transitions", silent)
        with pytest.raises(TableError):
            await feed.look()
        status = (await got(page, "/session"))["status"]
        assert status["silent"] is True
        assert "did not answer" in status["log_problem"]
    await served.read()
    status = (await got(page, "/session"))["status"]
    assert (status["silent"], status["log_problem"]) == (False, "")
