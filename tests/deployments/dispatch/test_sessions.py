"""Conversations without a field of ours: one model while tools are called, preferred otherwise."""

from collections import Counter
from dataclasses import replace

import pytest

from deployments.dispatch.request import DispatchRequest, Prompt
from tests.deployments.dispatch.dispatchers import ask, dispatcher
from tests.deployments.pools import model


def asked(decision_id: str, **prompt: object) -> DispatchRequest:
    made = ask(decision_id)
    return replace(made, key_id="k", prompt=replace(made.prompt, **prompt))


def test_a_conversation_with_tools_keeps_its_model_for_all_turns() -> None:
    made = dispatcher(beta=0.5, epsilon=0.05)
    firsts = set()
    for talk in map(str, range(12)):
        first = made.dispatch(asked(f"{talk}-0", conversation=talk, uses_tools=True)).decision.model
        firsts.add(first)
        made.view.flight = {first: 5}  # type: ignore[attr-defined]
        for turn in range(1, 12):
            again = asked(f"{talk}-{turn}", conversation=talk, uses_tools=True, continues=True)
            assert made.dispatch(again).decision.model == first
    assert len(firsts) > 1


def test_ingress_replicas_agree_about_a_conversation_with_tools() -> None:
    one, two = dispatcher(beta=0.5), dispatcher(beta=0.5)
    for talk in map(str, range(20)):
        called = one.dispatch(asked("a", conversation=talk, uses_tools=True))
        answered = two.dispatch(asked("b", conversation=talk, uses_tools=True, continues=True))
        assert called.decision.model == answered.decision.model


def test_conversations_of_two_keys_are_not_one() -> None:
    made = dispatcher(beta=0.01)
    chosen = {
        (key, talk): made.dispatch(
            replace(asked("d", conversation=talk, uses_tools=True), key_id=key)
        ).decision.model
        for key in "ab"
        for talk in map(str, range(30))
    }
    assert any(chosen["a", talk] != chosen["b", talk] for talk in map(str, range(30)))


@pytest.mark.parametrize("named", [True, False], ids=["by name", "by its beginning"])
def test_a_conversation_prefers_the_model_that_has_read_it(named: bool) -> None:
    rows = [model("one"), model("two")]
    made = dispatcher(*rows, beta=0.5, epsilon=0.0)

    def turn(talk: str, number: int) -> str:
        request = asked(f"{talk}-{number}", conversation=talk, continues=number > 0)
        if named:
            request = replace(request, preferences=replace(request.preferences, session=talk))
        return made.dispatch(request).decision.model

    kept = [(turn(str(talk), 0), turn(str(talk), 1)) for talk in range(40)]
    assert all(first == again for first, again in kept)
    assert len({first for first, _ in kept}) == 2


def test_a_conversation_leaves_a_model_that_has_become_much_worse() -> None:
    made = dispatcher(model("one"), model("two"), beta=20.0, epsilon=0.0)
    first = made.dispatch(asked("a", conversation="t")).decision.model
    made.view.flight = {first: 400}  # type: ignore[attr-defined]
    later = made.dispatch(asked("b", conversation="t", continues=True))
    assert later.decision.model != first
    assert not later.decision.decider.sticky


def test_first_turns_that_begin_alike_are_drawn_apart() -> None:
    made = dispatcher(model("one"), model("two"), beta=0.01, epsilon=0.0)
    drawn = Counter(made.dispatch(asked(f"d{i}", conversation="Hello")).decision.model for i in range(200))
    assert min(drawn.values()) > 50


def test_the_model_that_answered_in_place_of_the_chosen_one_goes_on() -> None:
    made = dispatcher(beta=0.5)
    called = made.dispatch(asked("a", conversation="t", uses_tools=True))
    other = next(m for m in ("large", "medium", "small") if m != called.decision.model)
    made.answered(called, other)
    after = made.dispatch(asked("b", conversation="t", uses_tools=True, continues=True))
    assert after.decision.model == other


def test_tools_count_into_the_prompt_that_looks_for_room() -> None:
    short, long = model("short", accuracy=0.9, context_tokens=1_000), model("long", context_tokens=100_000)
    made = dispatcher(short, long, epsilon=0.0, beta=50.0)
    made.settlement.lengths.counted("short", Prompt("word " * 200), 200)
    assert made.dispatch(asked("a")).decision.model == "short"
    tools = asked("b", extra_chars=40_000)
    assert made.dispatch(tools).decision.model == "long"
    alone = replace(tools, requested="short")
    assert made.dispatch(alone).decision.model == "short"  # no certain count: the engine has the word
