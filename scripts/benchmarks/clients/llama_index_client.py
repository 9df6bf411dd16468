"""LlamaIndex's OpenAI-like model."""

from typing import Any

import openai
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from scripts.benchmarks.clients.child import ASKED, HELLO, KEY, MODEL, SLOW, URL, begin, check, raises, run


class Person(BaseModel):
    """What is asked for in structure."""

    name: str
    age: int


def made(model: str = MODEL) -> Any:
    """The client of one model."""
    return OpenAILike(
        model=model,
        api_base=f"{URL}/v1",
        api_key=KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=4096,
        max_retries=0,
    )


def plain() -> None:
    """A completion and a chat."""
    check(made().complete(HELLO).text, "no text")
    check(made().chat([ChatMessage(role="user", content=HELLO)]).message.content, "no content")


def stream() -> None:
    """Pieces."""
    check("".join(piece.delta or "" for piece in made().stream_complete(HELLO)), "no text")


def tools() -> None:
    """A call."""

    def weather(city: str) -> str:
        """The weather of a city."""
        return "Rain"

    tool = FunctionTool.from_defaults(fn=weather)
    answer = made().chat_with_tools([tool], user_msg=ASKED)
    calls = made().get_tool_calls_from_response(answer)
    check(calls[0].tool_kwargs == {"city": "Paris"}, "no call")


def structured() -> None:
    """By a model of Pydantic."""
    person = made().as_structured_llm(Person).complete(HELLO).raw
    check(isinstance(person, Person), "no person")


def error() -> None:
    """OpenAI's exceptions."""
    raises(openai.NotFoundError, lambda: made("nobody").complete(HELLO))


def abandoned() -> None:
    """Left after a few pieces."""
    pieces = made(SLOW).stream_complete(HELLO)
    begin(pieces)
    pieces.close()


if __name__ == "__main__":
    run(plain, stream, tools, structured, error, abandoned)
