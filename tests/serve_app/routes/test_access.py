"""What each role opens, and limits as a caller meets them, over a simulated pool."""

import asyncio
import itertools
from types import SimpleNamespace

import httpx
import pytest
import pytest_asyncio

from deployments.keys.entries import KeyFile
from deployments.keys.key import by_digest
from deployments.table.errors import TableError
from serve_app.access.keys import KeyRing
from tests.serve_app.fixed_keys import FixedKeys

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "fs-access-key-0123456789"
LIVES = itertools.count()
VOTE = {"decision_id": "d-unknown", "score": 1.0}


@pytest_asyncio.fixture(loop_scope="module")
async def client(pool):
    """A client of its own key; `client.become(**entry)` says what the key may."""
    if not pool.models:
        await pool.add("m", price={"prompt_usd_per_mtok": 1.0, "completion_usd_per_mtok": 1.0})
    keys = pool.ingress.endpoint.keys

    def become(**entry):
        text = f"{TEXT}-{next(LIVES)}"  # another key: nothing is used yet
        entries = KeyFile.model_validate({"keys": [{"name": "own", "key": text, **entry}]}).keys
        pool.ingress.endpoint.keys = KeyRing(FixedKeys(by_digest(entries)))
        made.headers["authorization"] = f"Bearer {text}"

    async with httpx.AsyncClient(base_url=pool.url, timeout=30.0, trust_env=False) as made:
        made.become = become
        yield made
    pool.ingress.endpoint.keys = keys


async def chat(client, **body):
    messages = [{"role": "user", "content": "Hi"}]
    return await client.post("/v1/chat/completions", json={"model": "m", "messages": messages, **body})


@pytest.mark.parametrize(
    ("role", "opened"),
    [
        ("infer", {"chat", "models", "explain", "usage"}),
        ("read", {"models", "explain", "usage"}),
        ("feedback", {"feedback"}),
        ("admin", {"usage"}),
    ],
)
async def test_each_role_opens_its_routes_and_no_other(client, role, opened):
    client.become(roles=[role])
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    answers = {
        "chat": await chat(client),
        "models": await client.get("/v1/models"),
        "explain": await client.post("/v1/dispatch/explain", json=body),
        "usage": await client.get("/v1/usage"),
        "feedback": await client.post("/v1/feedback", json=VOTE),
    }
    assert {name for name, answer in answers.items() if answer.status_code != 403} == opened
    for name in answers.keys() - opened:
        assert answers[name].json()["error"]["code"] == "insufficient_permissions"


async def test_a_refused_request_uses_up_nothing(client):
    client.become(limits={"requests_per_s": 1.0, "tokens_per_min": 100})
    refused = await chat(client, model="gone")
    assert refused.status_code == 404
    first = await chat(client, max_tokens=90)
    assert first.status_code == 200, first.text
    assert first.headers["x-ratelimit-limit-requests"] == "1"
    second = await chat(client, max_tokens=100)
    assert second.status_code == 429
    assert int(second.headers["x-ratelimit-remaining-tokens"]) < 100


async def test_usage_and_headers_say_what_was_spent(client, pool):
    client.become(roles=["infer", "admin"], limits={"usd_per_day": 1.0})
    tokens = (await chat(client, max_tokens=20)).json()["usage"]["total_tokens"]
    left = (await chat(client, max_tokens=20)).headers["x-fastserve-budget-remaining-usd"]
    assert float(left) <= 1.0 - tokens * 1e-6
    await pool.ingress.view.outbox.flush()
    [own] = (await client.get("/v1/usage")).json()["data"]
    assert (own["key"], own["requests"], own["budget"]["usd"], own["budget"]["window"]) == (
        "own",
        2,
        1.0,
        "1d",
    )
    assert own["spent_usd"] == own["budget"]["spent_usd"] == pytest.approx(own["tokens"] * 1e-6)


@pytest.mark.parametrize("limits", [{"usd_per_day": 5e-5}, {"budget": {"usd": 5e-5, "window": "30d"}}])
async def test_a_spent_budget_is_429_until_the_next_window(client, limits):
    client.become(limits=limits)
    # A request uses 5e-6 USD here; up to 3.5e-5 is reserved, by what the pool has learned of lengths so far.
    answers = [await chat(client, max_tokens=30) for _ in range(15)]
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 429
    assert answers[-1].json()["error"]["code"] == "budget_exceeded"
    assert float(answers[-1].headers["x-fastserve-budget-remaining-usd"]) < 3.5e-5


async def test_a_model_without_a_price_answers_nobody_under_a_limit_in_dollars(client, pool):
    """Keys and prices change while the pool runs, when it is too late to refuse the config."""
    await pool.add("free", weight=0.0)
    [model] = [one for one in pool.models if one.config.id == "free"]
    try:
        client.become()
        assert (await chat(client, model="free")).status_code == 200
        client.become(roles=["infer", "read"], limits={"usd_per_day": 1.0})
        for stream in (False, True):
            refused = await chat(client, model="free", stream=stream)
            error = refused.json()["error"]
            assert (refused.status_code, error["code"]) == (503, "model_unpriced")
            assert "'usd_per_day' of key 'own' is a limit in dollars, and model 'free'" in error["message"]
            assert refused.headers["x-fastserve-degraded"] == "prices"
            assert refused.headers["x-should-retry"] == "false"
        assert (await chat(client, model="m")).status_code == 200
        body = {"model": "free", "messages": [{"role": "user", "content": "Hi"}]}
        shown = (await client.post("/v1/dispatch/explain", json=body)).json()["candidates"]
        assert {one["model"]: one["reason"] for one in shown}["free"] == "price 0 under a limit in dollars"
        await model.reconfigure({"price": {"completion_usd_per_mtok": 1.0}, "weight": 0.0})
        for _ in range(1200):
            if pool.ingress.view.snapshot.models["free"].card.completion_usd_per_mtok:
                break
            await asyncio.sleep(0.05)
        assert (await chat(client, model="free")).status_code == 200
    finally:
        await model.leave()
        pool.models.remove(model)


async def test_the_budget_of_a_team_and_of_a_profile_bind_too(client, pool):
    client.become(team="t")
    profile = {"p": {"allowed": ["m"], "budget": {"usd": 0}}}
    teams = {"t": {"budget": {"usd": 0, "window": "month"}}}
    try:
        pool.ingress.reconfigure({"dispatch": {"profiles": profile}})
        assert (await chat(client)).status_code == 200
        refused = await chat(client, model="auto:p")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
        assert refused.headers["x-fastserve-budget-account"] == "profile"
        pool.ingress.reconfigure({"teams": teams})
        refused = await chat(client)
        assert (refused.status_code, refused.headers["x-fastserve-budget-account"]) == (429, "team")
    finally:
        pool.ingress.reconfigure({})


async def test_limits_that_cannot_be_checked_are_503_and_said(client, pool, monkeypatch):
    async def away(holder, asks):
        raise TableError("away")

    client.become(limits={"usd_per_day": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(pool.ingress.leases, "_table", SimpleNamespace(lease=away))
        answer = await chat(client)
    await pool.ingress.leases.renew()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "limits_unavailable")
    assert answer.headers["x-fastserve-degraded"] == "limits"
    assert pool.ingress.metrics.meter.value("fastserve_degraded", "limits without table") > 0


async def test_savings_are_reckoned_with_the_baseline_model(client, pool):
    client.become()
    try:
        pool.ingress.reconfigure({"baseline_model": "m"})
        answer = await chat(client, max_tokens=20)
    finally:
        pool.ingress.reconfigure({})
    await pool.ingress.view.outbox.flush()
    [(_, record)] = await pool.table.transitions_of([answer.headers["x-fastserve-decision-id"]])
    assert record.baseline_usd == record.outcome.cost_usd > 0.0
    assert pool.ingress.metrics.meter.value("fastserve_baseline_cost", "m") == record.baseline_usd


async def streamed(client, tokens):
    """The status of one stream of so many tokens, without the usage that most clients do not ask for."""
    answer = await chat(client, stream=True, max_tokens=tokens, ignore_eos=True)
    return answer.status_code, None if answer.status_code == 200 else answer.json()["error"]["code"]


async def test_streams_without_usage_use_up_tokens(client):
    client.become(limits={"tokens_per_min": 400})
    assert (429, "rate_limit_exceeded") in [await streamed(client, 200) for _ in range(3)]


async def test_streams_without_usage_use_up_dollars(client):
    client.become(limits={"usd_per_day": 0.0008})
    assert (429, "budget_exceeded") in [await streamed(client, 400) for _ in range(5)]


async def test_a_key_learns_nothing_of_models_that_it_may_not_use(client, pool):
    """What it is told of a model that it may not use is what it is told of one that is not there."""
    if len(pool.models) < 2:
        await pool.add("secret", price={"prompt_usd_per_mtok": 1.0, "completion_usd_per_mtok": 1.0})
    client.become(roles=["infer", "read"], limits={"models": ["m"]})
    messages = [{"role": "user", "content": "Hi"}]

    async def told(name: str) -> list[tuple[int, str]]:
        body = {"model": "auto", "messages": messages}
        answers = [
            await chat(client, model=name),
            await client.get(f"/v1/models/{name}"),
            await client.post("/v1/dispatch/explain", json=body | {"model": name}),
            await chat(client, model="auto", fastserve={"models": [name]}),
            await client.post("/v1/dispatch/explain", json=body | {"fastserve": {"models": [name]}}),
        ]
        return [(answer.status_code, answer.text.replace(name, "NAME")) for answer in answers]

    assert await told("secret") == await told("absent")
    body = {"model": "auto", "messages": messages}
    answers = [
        await client.get("/v1/models"),
        await client.post("/v1/dispatch/explain", json=body),
        await chat(client, model="auto", fastserve={"max_cost_usd": 1e-12}),
        await client.post("/v1/dispatch/explain", json=body | {"fastserve": {"max_cost_usd": 1e-12}}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 200]
    assert all("secret" not in answer.text + str(answer.headers) for answer in answers)
    assert [one["model"] for one in answers[1].json()["candidates"]] == ["m"]


async def test_explaining_counts_as_a_request(client):
    client.become(roles=["infer", "admin"], limits={"requests_per_s": 1.0})
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    statuses = [(await client.post("/v1/dispatch/explain", json=body)).status_code for _ in range(3)]
    assert statuses[0] == 200
    assert 429 in statuses
