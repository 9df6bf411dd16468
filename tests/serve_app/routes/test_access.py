"""What each role opens, and limits as a caller meets them, over a simulated pool."""

import time

import httpx
import pytest
import pytest_asyncio
import yaml

from serve_app.access.keys import KEY_FILE, KeyRing
from serve_app.access.limits import Limiter

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "fs-access-key-0123456789"
VOTE = {"decision_id": "d-unknown", "score": 1.0}


@pytest_asyncio.fixture(loop_scope="module")
async def client(pool, tmp_path):
    """A client of its own key; `client.become(**entry)` says what the key may."""
    if not pool.models:
        await pool.add("m", price={"prompt_usd_per_mtok": 1.0, "completion_usd_per_mtok": 1.0})
    keys, limiter = pool.ingress.endpoint.keys, pool.ingress.endpoint.limiter

    def become(**entry):
        path = tmp_path / KEY_FILE
        path.write_text(yaml.safe_dump({"keys": [{"name": "own", "key": TEXT, **entry}]}))
        path.chmod(0o600)
        pool.ingress.endpoint.keys = KeyRing(path, {})
        pool.ingress.endpoint.limiter = Limiter()

    headers = {"authorization": f"Bearer {TEXT}"}
    async with httpx.AsyncClient(base_url=pool.url, headers=headers, timeout=30.0, trust_env=False) as made:
        made.become = become
        yield made
    pool.ingress.endpoint.keys, pool.ingress.endpoint.limiter = keys, limiter


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


async def test_usage_and_headers_say_what_was_spent(client):
    client.become(roles=["infer", "admin"], limits={"usd_per_day": 1.0})
    tokens = (await chat(client, max_tokens=20)).json()["usage"]["total_tokens"]
    left = (await chat(client, max_tokens=20)).headers["x-fastserve-budget-remaining-usd"]
    assert float(left) <= 1.0 - tokens * 1e-6
    [own] = (await client.get("/v1/usage")).json()["data"]
    assert (own["key"], own["requests"], own["in_flight"], own["limit_usd"]) == ("own", 2, 0, 1.0)
    assert own["spent_usd"] == pytest.approx(own["tokens"] * 1e-6)


async def test_a_spent_budget_is_429_until_the_next_day(client):
    client.become(limits={"usd_per_day": 1e-5})
    statuses = [(await chat(client, max_tokens=30)).status_code for _ in range(3)]
    assert statuses[0] == 200
    assert statuses[-1] == 429


async def streamed(client, tokens):
    """The status of one stream of so many tokens, without the usage that most clients do not ask for."""
    answer = await chat(client, stream=True, max_tokens=tokens, ignore_eos=True)
    return answer.status_code, None if answer.status_code == 200 else answer.json()["error"]["code"]


async def test_streams_without_usage_use_up_tokens(client):
    client.become(limits={"tokens_per_min": 400})
    assert (429, "rate_limit_exceeded") in [await streamed(client, 200) for _ in range(3)]


async def test_streams_without_usage_use_up_dollars(client):
    client.become(limits={"usd_per_day": 0.0004})
    assert (429, "budget_exceeded") in [await streamed(client, 400) for _ in range(3)]


async def test_a_replica_that_starts_counts_what_was_spent_before(client, pool):
    client.become(limits={"usd_per_day": 1.0})
    await chat(client, max_tokens=30)
    await pool.ingress.view.outbox.flush()
    spent_usd = pool.ingress.endpoint.limiter.today(pool.ingress.endpoint.keys.keys[0])["spent_usd"]
    client.become(limits={"usd_per_day": 1.0})  # a limiter that knows nothing
    pool.ingress._counts_from_s = time.time()
    await pool.ingress._catch_up(pool.ingress.view.snapshot)
    [own] = (await client.get("/v1/usage")).json()["data"]
    assert own["spent_usd"] >= spent_usd > 0.0
