"""Who decided: one type, whose text form is what the log and the header hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.decider import FORMULA, NAMED, PRICED, Decider, learned, version_name

WORDS = st.from_regex(r"[a-z][a-z ]{0,8}", fullmatch=True)
DECIDERS = st.builds(
    Decider, WORDS, st.none() | st.integers(0, 10**6), st.just("") | WORDS, sticky=st.booleans()
)


@given(DECIDERS)
def test_what_is_written_is_read_again(decider: Decider) -> None:
    assert Decider.parse(str(decider)) == decider


@pytest.mark.parametrize(
    ("text", "decider", "label"),
    [
        ("priced", PRICED, "priced"),
        ("formula", FORMULA, "formula"),
        ("named", NAMED, "named"),
        ("learned@7", learned(7), "learned"),
        ("learned@7;sticky", Decider("learned", 7, sticky=True), "learned;sticky"),
        ("formula;fallback=error", Decider("formula", fallback="error"), "formula;fallback=error"),
        (
            "formula;fallback=alarm;sticky",
            Decider("formula", None, "alarm", True),
            "formula;fallback=alarm;sticky",
        ),
    ],
)
def test_the_text_forms_of_earlier_logs(text: str, decider: Decider, label: str) -> None:
    assert Decider.parse(text) == decider
    assert (str(decider), decider.label) == (text, label)


@pytest.mark.parametrize(
    "text", ["", "@7", "learned@", "learned@x", "learned@7;odd", "formula;sticky;sticky"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not '<policy>"):
        Decider.parse(text)


def test_a_version_of_the_rollout_has_a_name() -> None:
    assert (version_name(None), version_name(7)) == ("priced", "learned@7")


@pytest.mark.parametrize(
    ("reason", "fault"), [("", False), ("missing", False), ("alarm", False), ("error", True)]
)
def test_a_fallback_is_the_policys_fault_or_not(reason: str, fault: bool) -> None:
    assert Decider("formula", fallback=reason).is_fault is fault
