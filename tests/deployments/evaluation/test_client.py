"""The client takes text, tokens and times from a stream; failures are transient, final or the item's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deployments.evaluation.client import EvaluationClient, EvaluationError, TransientError
from deployments.suites.item import Item
from tests.deployments.fake_endpoint import KEY, FakeEndpoint, right, sums


@pytest.fixture
async def endpoint() -> AsyncIterator[FakeEndpoint]:
    async with FakeEndpoint(right) as running:
        yield running


@pytest.fixture
def item(tmp_path: Path) -> Item:
    return sums(tmp_path, 3).items[2]


async def ask(endpoint: FakeEndpoint, item: Item, key: str = KEY) -> object:
    client = EvaluationClient(lambda: endpoint.url, key)
    try:
        return await client.ask("good", item)
    finally:
        await client.close()


async def test_an_answer_has_text_tokens_and_times(endpoint: FakeEndpoint, item: Item) -> None:
    client = EvaluationClient(lambda: endpoint.url + "/", KEY)
    answer = await client.ask("good", item)
    await client.close()
    assert (answer.text, answer.prompt_tokens, answer.output_tokens, answer.error) == ("It is 3", 1, 3, None)
    assert answer.ttft_s is not None
    assert answer.e2e_s is not None
    assert answer.tpot_s is not None
    assert 0 < answer.ttft_s <= answer.e2e_s
    assert endpoint.bodies[0]["temperature"] == 0.0
    assert endpoint.bodies[0]["max_tokens"] == item.max_tokens


async def test_a_refused_key_is_final(endpoint: FakeEndpoint, item: Item) -> None:
    with pytest.raises(EvaluationError, match="Wrong key"):
        await ask(endpoint, item, "other")


@pytest.mark.parametrize("fault", [429, 500, 502, 503, 404, "cut"])
async def test_what_may_pass_is_transient(endpoint: FakeEndpoint, item: Item, fault: int | str) -> None:
    endpoint.fault = lambda model, prompt: fault
    with pytest.raises(TransientError):
        await ask(endpoint, item)


async def test_an_item_that_cannot_be_served_is_an_answer_with_its_error(
    endpoint: FakeEndpoint, item: Item
) -> None:
    endpoint.fault = lambda model, prompt: 400
    client = EvaluationClient(lambda: endpoint.url, KEY)
    answer = await client.ask("good", item)
    await client.close()
    assert (answer.text, answer.error) == ("", "context_length_exceeded")


async def test_nobody_there_is_transient(item: Item) -> None:
    client = EvaluationClient(lambda: "http://127.0.0.1:9", KEY)
    with pytest.raises(TransientError):
        await client.ask("good", item)
    await client.close()
