"""Anthropic's package for Python on /v1/messages."""

from typing import Any

import anthropic

from scripts.benchmarks.clients.child import ASKED, HELLO, KEY, MODEL, SLOW, URL, begin, check, raises, run

CLIENT: Any = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
MESSAGES = [{"role": "user", "content": HELLO}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"name": "weather", "input_schema": SCHEMA}


def ask(**fields: Any) -> Any:
    """One message."""
    return CLIENT.messages.create(**({"model": MODEL, "max_tokens": 60, "messages": MESSAGES} | fields))


def plain() -> None:
    """Text and usage."""
    message = ask()
    check(message.content[0].text and message.usage.output_tokens, "no text or usage")
    counted = CLIENT.messages.count_tokens(model=MODEL, messages=MESSAGES)
    check(counted.input_tokens == message.usage.input_tokens, "another count")


def stream() -> None:
    """The text of the events is the message's."""
    with CLIENT.messages.stream(model=MODEL, max_tokens=60, messages=MESSAGES) as events:
        text = "".join(events.text_stream)
        check(text and text == events.get_final_message().content[0].text, "another text")


def tools() -> None:
    """A call and its result."""
    asked = [{"role": "user", "content": ASKED}]
    message = ask(messages=asked, tools=[TOOL])
    check(message.stop_reason == "tool_use" and message.content[-1].input == {"city": "Paris"}, "no call")
    with CLIENT.messages.stream(model=MODEL, max_tokens=60, messages=asked, tools=[TOOL]) as events:
        check(events.get_final_message().content[-1].input == {"city": "Paris"}, "no streamed call")
    result = {"type": "tool_result", "tool_use_id": message.content[-1].id, "content": "Rain"}
    history = [
        *asked,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [result]},
    ]
    check(ask(messages=history, tools=[TOOL]).content[0].text, "no answer after the result")


def structured() -> None:
    """By a schema."""
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    check('"city"' in ask(extra_body={"output_config": form}).content[0].text, "not by the schema")


def error() -> None:
    """The package's own exceptions."""
    raises(anthropic.NotFoundError, lambda: ask(model="nobody"))
    raises(anthropic.BadRequestError, lambda: ask(extra_body={"temperature": 9}))
    wrong: Any = anthropic.Anthropic(base_url=URL, api_key="no", max_retries=0)
    raises(
        anthropic.AuthenticationError,
        lambda: wrong.messages.create(model=MODEL, max_tokens=9, messages=MESSAGES),
    )


def abandoned() -> None:
    """Left after a few pieces."""
    with CLIENT.messages.stream(model=SLOW, max_tokens=2000, messages=MESSAGES) as events:
        begin(events.text_stream)


if __name__ == "__main__":
    run(plain, stream, tools, structured, error, abandoned)
