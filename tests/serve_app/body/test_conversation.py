"""What a body says of its conversation: how it begins, with whom, whether it goes on and has tools."""

import pytest

from serve_app.body.calls import Calls
from serve_app.config import Caps

SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = {"role": "user", "content": "The weather?"}
TOOL_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "Rain."}
TOOL = {"type": "function", "function": {"name": "f"}}


def chat(*messages, **body):
    return Calls(Caps()).chat({"model": "auto", "messages": list(messages), **body}).prompt


def response(*items, **body):
    return Calls(Caps()).response({"model": "auto", "input": list(items), **body}).prompt


def test_all_turns_of_a_conversation_begin_alike():
    turns = [
        chat(SYSTEM, ASKED),
        chat(SYSTEM, ASKED, CALLED, RESULT),
        chat(SYSTEM, ASKED, CALLED, RESULT, {"role": "assistant", "content": "It rains."}, ASKED),
    ]
    assert len({prompt.conversation for prompt in turns}) == 1
    assert [prompt.continues for prompt in turns] == [False, True, True]
    assert [prompt.uses_tools for prompt in turns] == [False, True, True]


def test_the_time_in_a_system_prompt_begins_no_other_conversation():
    def told(hour, order):
        system = {"role": "system", "content": f"It is 2026-12-01 {hour:02}:30. Be brief."}
        return chat(system, {"role": "user", "content": f"Where is order {order}?"}).conversation

    assert told(9, 1) == told(10, 1) != told(9, 2)


@pytest.mark.parametrize("name", ["user", "safety_identifier", "prompt_cache_key"])
def test_whom_it_is_with_tells_conversations_apart(name):
    assert chat(ASKED, **{name: "ann"}).conversation != chat(ASKED, **{name: "bob"}).conversation
    assert (
        chat(ASKED, **{name: "ann"}).conversation == chat(ASKED, CALLED, RESULT, **{name: "ann"}).conversation
    )
    assert chat(ASKED).conversation != chat(SYSTEM, ASKED).conversation


def test_responses_say_the_same():
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    first, then = response(ASKED), response(ASKED, call, {"type": "function_call_output", "call_id": "c"})
    assert first.conversation == then.conversation
    assert (first.continues, first.uses_tools) == (False, False)
    assert (then.continues, then.uses_tools) == (True, True)


def test_tools_that_may_be_called_count():
    assert chat(ASKED, tools=[TOOL]).uses_tools
    assert not chat(ASKED, tools=[]).uses_tools
