"""/v1/messages through a whole pool by Anthropic's own SDK: plain, streamed, tools, errors, counting."""

import anthropic
import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = [{"role": "user", "content": "Hello there"}]
WEATHER = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ASKED = [{"role": "user", "content": "What is the weather in Paris"}]


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="sdk")
async def sdk_fixture(pool):
    await pool.add("small", capabilities=["chat", "tools", "json"], context_tokens=4096)
    key = pool.client.headers["authorization"].removeprefix("Bearer ")
    async with anthropic.AsyncAnthropic(base_url=pool.url, api_key=key, max_retries=0) as made:
        yield made


async def test_a_message_is_answered_and_logged(pool, sdk):
    raw = await sdk.messages.with_raw_response.create(model="auto", max_tokens=6, messages=HELLO)
    message = await raw.parse()
    assert raw.headers["x-fastserve-model"] == message.model == "small"
    assert (message.role, message.content[0].type) == ("assistant", "text")
    assert 0 < message.usage.output_tokens <= 6
    assert message.stop_reason in ("end_turn", "max_tokens")
    await pool.ingress.view.outbox.flush()
    outcome = (await pool.table.transitions(0.0, 10_000))[-1][1].outcome
    assert (outcome.status, outcome.tokens_estimated) == ("ok", False)
    assert outcome.output_tokens == message.usage.output_tokens


async def test_a_stream_has_anthropic_s_events_and_usage(sdk):
    async with sdk.messages.stream(model="small", max_tokens=8, messages=HELLO) as stream:
        pieces = [text async for text in stream.text_stream]
        message = await stream.get_final_message()
    assert len(pieces) > 1
    assert "".join(pieces) == message.content[0].text
    assert message.usage.output_tokens > 0
    assert message.usage.input_tokens > 0
    assert message.stop_reason in ("end_turn", "max_tokens")


@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "weather"}])
async def test_a_tool_is_called_and_answered_in_both_ways(sdk, choice):
    asked = {"model": "small", "max_tokens": 50, "messages": ASKED, "tools": [WEATHER], "tool_choice": choice}
    plain = await sdk.messages.create(**asked)
    async with sdk.messages.stream(**asked) as stream:
        streamed = await stream.get_final_message()
    for message in (plain, streamed):
        assert message.stop_reason == "tool_use"
        [call] = message.content
        assert (call.name, call.input) == ("weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Rain."}
    asked["messages"] = [
        *ASKED,
        {"role": "assistant", "content": plain.content},
        {"role": "user", "content": [result]},
    ]
    answer = await sdk.messages.create(**(asked | {"tool_choice": {"type": "auto"}}))
    assert answer.content[0].type == "text"


async def test_errors_are_anthropic_s_own(pool, sdk):
    with pytest.raises(anthropic.NotFoundError, match="not served"):
        await sdk.messages.create(model="nobody", max_tokens=6, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError) as caught:
        await sdk.messages.create(model="small", max_tokens=6, messages=HELLO, extra_body={"temperature": 9})
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    wrong = anthropic.AsyncAnthropic(base_url=pool.url, api_key="no", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        await wrong.messages.create(model="small", max_tokens=6, messages=HELLO)
    await wrong.close()


async def test_a_stream_that_breaks_says_so_in_anthropic_s_words(pool, sdk):
    await pool.add("frail", weight=0.0, simulated={"faults": {"die_at_token": 2}, "mean_output_tokens": 50})
    with pytest.raises(anthropic.APIError, match="stopped before"):
        async with sdk.messages.stream(model="frail", max_tokens=30, messages=HELLO) as stream:
            await stream.get_final_message()


async def test_tokens_are_counted_as_the_answer_s_usage_says(sdk):
    counted = await sdk.messages.count_tokens(model="small", messages=HELLO)
    message = await sdk.messages.create(model="small", max_tokens=2, messages=HELLO)
    assert counted.input_tokens == message.usage.input_tokens
