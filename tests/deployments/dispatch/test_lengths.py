"""What engines count teaches how long a text is to a model, kind by kind."""

from dataclasses import replace

import pytest

from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.lengths import Lengths, TextKind, kind_of
from deployments.dispatch.masks import Reason
from deployments.dispatch.request import Prompt
from deployments.dispatch.settings import DispatchSettings
from deployments.records.records import OutcomeRecord
from policies.outcome import Outcome, Status
from tests.deployments.dispatch.asking import ask
from tests.deployments.pools import View, model, snapshot

HEXADECIMAL = "0123456789abcdef" * 113  # 1,808 characters


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("hello there my friend " * 9, TextKind.PROSE),
        (HEXADECIMAL, TextKind.DENSE),
        ("请把这句话翻译成英文" * 9, TextKind.WIDE),
        ("", TextKind.DENSE),
    ],
)
def test_kinds_of_text(text: str, kind: TextKind) -> None:
    assert kind_of(text) is kind


def test_counts_are_remembered_by_kind_and_tell_of_other_models_too() -> None:
    lengths = Lengths()
    for _ in range(50):
        lengths.counted("a", Prompt(HEXADECIMAL), 1_356)
    assert lengths.likely(("a", "b"), Prompt(HEXADECIMAL * 2), 0.0).tolist() == pytest.approx(
        [2_712.0, 2_712.0]
    )
    assert lengths.likely(("a",), Prompt("hello there my friend " * 50), 0.0).tolist() == [0.0]


def test_a_short_text_teaches_nothing() -> None:
    lengths = Lengths()
    lengths.counted("a", Prompt("hi"), 40)  # nearly all of it is the chat template
    assert lengths.likely(("a",), Prompt("hi"), 0.0).tolist() == [0.0]


def test_a_refusal_for_length_is_believed_for_a_while_where_it_can_be_true() -> None:
    lengths, prompt = Lengths(), Prompt(HEXADECIMAL)
    lengths.refused("a", Prompt("hi"), 1_024.0, 0.0)  # whatever was too long, two characters were not
    lengths.refused("b", prompt, 1_025.0, 0.0)
    lengths.refused("c", replace(prompt, max_tokens=500), 1_025.0, 0.0)
    for now_s, expected in ((1.0, [775.5, 1_025.0, 526.0]), (601.0, [0.0, 0.0, 0.0])):
        assert lengths.likely(("a", "b", "c"), prompt, now_s).tolist() == pytest.approx(expected)


def test_after_a_refusal_for_length_the_same_kind_goes_where_it_fits() -> None:
    rows = (model("short", context_tokens=1_024, accuracy=0.9), model("long", context_tokens=8_192))
    made = Dispatcher(View(snapshot(*rows)), DispatchSettings.model_validate({"epsilon": 0.0}))
    first = made.dispatch(ask("d0", text=HEXADECIMAL))
    assert "short" not in first.reasons
    first.too_short.append("short")
    outcome = Outcome(Status.OK, e2e_s=1.0, prompt_tokens=1_360)
    made.settlement.settle(first, OutcomeRecord("d0", 0.0, "long", "r", outcome), made._wall())
    estimated = Outcome(Status.OK, e2e_s=1.0, prompt_tokens=452)
    record = OutcomeRecord("d0", 0.0, "short", "r", estimated)
    for _ in range(50):
        made.settlement.settle(first, record, made._wall(), is_counted=False)
    assert made.explain(ask("d1", text=HEXADECIMAL)).reasons == {"short": Reason.CONTEXT.value}
    assert made.explain(ask("d2", text=HEXADECIMAL[:1_000])).reasons == {}
    assert made.explain(ask("d3", "short", text=HEXADECIMAL)).reasons == {"long": Reason.NOT_NAMED.value}
