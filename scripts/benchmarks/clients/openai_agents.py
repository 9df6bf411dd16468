"""OpenAI's Agents SDK over chat completions and responses."""

import asyncio
from typing import Any

import openai
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from pydantic import BaseModel

from scripts.benchmarks.clients.child import ASKED, HELLO, KEY, MODEL, PIECES, SLOW, URL, check, raises, run

set_tracing_disabled(True)
KINDS: Any = (OpenAIChatCompletionsModel, OpenAIResponsesModel)


class Person(BaseModel):
    """What is asked for in structure."""

    name: str
    age: int


def agent(kind: Any, model: str = MODEL, **fields: Any) -> Any:
    """An agent over one of the APIs; its client belongs to the loop that is made for each case."""
    client = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
    return Agent(name="a", instructions="Be brief.", model=kind(model, openai_client=client), **fields)


def weather(city: str) -> str:
    """The weather of a city."""
    return "Rain"


def plain() -> None:
    """Both of OpenAI's APIs."""
    for kind in KINDS:
        check(asyncio.run(Runner.run(agent(kind), HELLO)).final_output, "no output")


def stream() -> None:
    """Both, streamed."""

    async def events(kind: Any) -> int:
        result = Runner.run_streamed(agent(kind), HELLO)
        return len([event async for event in result.stream_events()])

    for kind in KINDS:
        check(asyncio.run(events(kind)) > 2, "no events")


def tools() -> None:
    """The agent calls the tool and answers with its result."""
    for kind in KINDS:
        result = asyncio.run(Runner.run(agent(kind, tools=[function_tool(weather)]), ASKED))
        kinds = [item.type for item in result.new_items]
        check("tool_call_output_item" in kinds and result.final_output, f"items: {kinds}")


def structured() -> None:
    """By a schema."""
    for kind in KINDS:
        result = asyncio.run(Runner.run(agent(kind, output_type=Person), HELLO))
        check(isinstance(result.final_output, Person), "no person")


def error() -> None:
    """OpenAI's exceptions."""
    raises(openai.NotFoundError, lambda: asyncio.run(Runner.run(agent(KINDS[0], "nobody"), HELLO)))


def abandoned() -> None:
    """Left after a few pieces."""

    async def leave() -> None:
        result = Runner.run_streamed(agent(KINDS[0], SLOW), HELLO)
        count = 0
        async for _ in result.stream_events():
            count += 1
            if count == PIECES:
                break
        result.cancel()

    asyncio.run(leave())


if __name__ == "__main__":
    run(plain, stream, tools, structured, error, abandoned)
