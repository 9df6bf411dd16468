"""A conversation with a real ingress over simulated models."""

from typing import Any

import pytest

from serve_app.console.talk import Talk, TalkError

pytestmark = pytest.mark.asyncio(loop_scope="module")


def key_of(pool: Any) -> str:
    return str(pool.client.headers["authorization"]).removeprefix("Bearer ")


async def test_an_answer_streams_and_says_who_gave_it_and_why(pool: Any) -> None:
    await pool.add("alpha")
    talk, pieces = Talk(pool.url, key_of(pool), "auto"), []
    reply = await talk.ask("Hello there", pieces.append)
    assert reply.text == "".join(pieces) != ""
    assert reply.decision["model"] == "alpha"
    assert {"policy", "decision-id"} <= set(reply.decision)
    assert reply.tokens > 0
    assert reply.line().startswith("[model alpha, policy ")
    again = await talk.ask("And then?", pieces.append)
    assert again.text


async def test_a_refusal_is_told_in_the_endpoints_words(pool: Any) -> None:
    with pytest.raises(TalkError, match=r"404: .*nobody"):
        await Talk(pool.url, key_of(pool), "nobody").ask("Hello", lambda _: None)
    with pytest.raises(TalkError, match="401: "):
        await Talk(pool.url, "fs-wrong-key-0123456789", "auto").ask("Hello", lambda _: None)


async def test_where_nothing_listens_that_is_said() -> None:
    with pytest.raises(TalkError, match="does not answer"):
        await Talk("http://127.0.0.1:9", "fs-any-key-0123456789", "auto").ask("Hello", lambda _: None)
