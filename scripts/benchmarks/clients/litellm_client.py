"""LiteLLM as a client."""

from typing import Any

import litellm
from pydantic import BaseModel

from scripts.benchmarks.clients.child import ASKED, HELLO, KEY, MODEL, SLOW, URL, begin, check, raises, run

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


class Person(BaseModel):
    """What is asked for in structure."""

    name: str
    age: int


def ask(text: str = HELLO, model: str = MODEL, **fields: Any) -> Any:
    """One completion."""
    messages = [{"role": "user", "content": text}]
    where = {"api_base": f"{URL}/v1", "api_key": KEY, "max_retries": 0}
    return litellm.completion(model=f"openai/{model}", messages=messages, **where, **fields)


def plain() -> None:
    """Chat and vectors."""
    check(ask().choices[0].message.content, "no content")
    where = {"api_base": f"{URL}/v1", "api_key": KEY}
    check(litellm.embedding(model=f"openai/{MODEL}", input=["a"], **where).data, "no vectors")
    through = litellm.completion(
        model=f"anthropic/{MODEL}",
        messages=[{"role": "user", "content": HELLO}],
        api_base=URL,
        api_key=KEY,
        max_tokens=50,
    )
    check(through.choices[0].message.content, "no content by /v1/messages")


def stream() -> None:
    """Pieces and usage."""
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    check("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), "no content")


def tools() -> None:
    """A call, plain and streamed."""
    calls = ask(ASKED, tools=[TOOL]).choices[0].message.tool_calls
    check(calls and "Paris" in calls[0].function.arguments, "no call")
    deltas = [chunk.choices[0].delta for chunk in ask(ASKED, tools=[TOOL], stream=True) if chunk.choices]
    check(any(delta.tool_calls for delta in deltas), "no streamed call")


def structured() -> None:
    """By a model of Pydantic."""
    Person.model_validate_json(ask(response_format=Person).choices[0].message.content)


def error() -> None:
    """LiteLLM's own exceptions."""
    raises(litellm.NotFoundError, lambda: ask(model="nobody"))
    raises(litellm.ContextWindowExceededError, lambda: ask(HELLO * 20_000))
    raises(litellm.BadRequestError, lambda: ask(top_p=9))


def abandoned() -> None:
    """Left after a few pieces."""
    chunks = ask(model=SLOW, stream=True)
    begin(chunks)
    chunks.completion_stream.close()


if __name__ == "__main__":
    run(plain, stream, tools, structured, error, abandoned)
