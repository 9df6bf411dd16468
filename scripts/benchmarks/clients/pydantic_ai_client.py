"""Pydantic AI over chat completions and responses."""

import asyncio
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from scripts.benchmarks.clients.child import ASKED, HELLO, KEY, MODEL, PIECES, SLOW, URL, check, raises, run

PROVIDER = OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY)
CHAT = OpenAIChatModel(MODEL, provider=PROVIDER)
RESPONSES = OpenAIResponsesModel(MODEL, provider=PROVIDER)


class Person(BaseModel):
    """What is asked for in structure."""

    name: str
    age: int


def plain() -> None:
    """Both of OpenAI's APIs."""
    for model in (CHAT, RESPONSES):
        check(Agent(model).run_sync(HELLO).output, "no output")


def stream() -> None:
    """Both, streamed."""

    async def pieces(model: Any) -> list[str]:
        async with Agent(model).run_stream(HELLO) as result:
            return [text async for text in result.stream_text(delta=True)]

    for model in (CHAT, RESPONSES):
        check("".join(asyncio.run(pieces(model))), "no text")


def tools() -> None:
    """The agent calls the tool and answers with its result."""

    def weather(city: str) -> str:
        """The weather of a city."""
        return "Rain"

    for model in (CHAT, RESPONSES):
        result: Any = Agent(model, tools=[weather]).run_sync(ASKED)
        calls = [part for m in result.all_messages() for part in m.parts if part.part_kind == "tool-return"]
        check(result.output and calls, "no call and answer")


def structured() -> None:
    """By a tool and by a schema."""
    check(isinstance(Agent(CHAT, output_type=Person).run_sync(HELLO).output, Person), "no person")


def error() -> None:
    """The package's own exception."""
    nobody = OpenAIChatModel("nobody", provider=PROVIDER)
    told = raises(ModelHTTPError, lambda: Agent(nobody).run_sync(HELLO))
    check("404" in told, told)


def abandoned() -> None:
    """Left after a few pieces."""

    async def leave() -> None:
        slow = OpenAIChatModel(SLOW, provider=PROVIDER)
        async with Agent(slow).run_stream(HELLO) as result:
            count = 0
            async for _ in result.stream_text(delta=True, debounce_by=None):
                count += 1
                if count == PIECES:
                    break

    asyncio.run(asyncio.wait_for(leave(), 20))


if __name__ == "__main__":
    run(plain, stream, tools, structured, error, abandoned)
