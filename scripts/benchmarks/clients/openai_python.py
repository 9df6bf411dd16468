"""The `openai` package for Python: chat, responses, embeddings."""

from typing import Any

import openai
from pydantic import BaseModel

from scripts.benchmarks.clients.child import ASKED, HELLO, KEY, MODEL, SLOW, URL, begin, check, raises, run

CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
MESSAGES: Any = [{"role": "user", "content": HELLO}]
WEATHER: Any = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


class Person(BaseModel):
    """What is asked for in structure."""

    name: str
    age: int


def plain() -> None:
    """Chat, response, text, vectors."""
    answer = CLIENT.chat.completions.create(model=MODEL, messages=MESSAGES)
    check(answer.choices[0].message.content and answer.usage, "no content or usage")
    check(CLIENT.responses.create(model=MODEL, input=HELLO).output_text, "no output text")
    check(CLIENT.completions.create(model=MODEL, prompt=HELLO).choices[0].text, "no text")
    check(len(CLIENT.embeddings.create(model=MODEL, input=["a", "b"]).data) == 2, "two vectors")
    check(any(model.id == MODEL for model in CLIENT.models.list()), "not listed")


def stream() -> None:
    """Chat and response."""
    with CLIENT.chat.completions.stream(model=MODEL, messages=MESSAGES) as chunks:
        chunks.until_done()
        check(chunks.get_final_completion().choices[0].message.content, "no content")
    with CLIENT.responses.stream(model=MODEL, input=HELLO) as events:
        check(events.get_final_response().output_text, "no output text")


def tools() -> None:
    """A call and its result, plain and streamed, chat and response."""
    called = CLIENT.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": ASKED}], tools=[TOOL]
    )
    message = called.choices[0].message
    calls: Any = message.tool_calls or []
    check(calls and "Paris" in calls[0].function.arguments, "no call with its argument")
    result: Any = {"role": "tool", "tool_call_id": calls[0].id, "content": "Rain"}
    history: Any = [{"role": "user", "content": ASKED}, message, result]
    answer = CLIENT.chat.completions.create(model=MODEL, messages=history, tools=[TOOL])
    check(answer.choices[0].message.content, "no answer after the result")
    with CLIENT.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": ASKED}],
        tools=[{**TOOL, "function": {**TOOL["function"]}}],
    ) as chunks:
        final: Any = chunks.get_final_completion().choices[0].message.tool_calls
        check(final and "Paris" in final[0].function.arguments, "no streamed call")
    flat: Any = [{"type": "function", **TOOL["function"], "strict": False}]
    response = CLIENT.responses.create(model=MODEL, input=ASKED, tools=flat)
    check(response.output[-1].type == "function_call", "no call in the response")


def structured() -> None:
    """By a model of Pydantic."""
    chat = CLIENT.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Person)
    check(chat.choices[0].message.parsed, "not parsed")
    check(CLIENT.responses.parse(model=MODEL, input=HELLO, text_format=Person).output_parsed, "not parsed")


def error() -> None:
    """The package's own exceptions, with code and param."""

    def ask(**fields: Any) -> object:
        return CLIENT.chat.completions.create(**({"model": MODEL, "messages": MESSAGES} | fields))

    raises(openai.NotFoundError, lambda: ask(model="nobody"))
    raises(openai.BadRequestError, lambda: ask(temperature=9))
    told = raises(openai.BadRequestError, lambda: ask(messages=[{"role": "user", "content": HELLO * 20_000}]))
    check("maximum context length" in told, "the words that clients look for")
    wrong = openai.OpenAI(base_url=f"{URL}/v1", api_key="no", max_retries=0)
    raises(openai.AuthenticationError, wrong.models.list)


def abandoned() -> None:
    """Left after a few pieces."""
    chunks = CLIENT.chat.completions.create(model=SLOW, messages=MESSAGES, stream=True)
    begin(chunks)
    chunks.close()


if __name__ == "__main__":
    run(plain, stream, tools, structured, error, abandoned)
