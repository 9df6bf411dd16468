"""Votes are taken or refused by field; tokens cannot be forged, moved or kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.access.feedback_tokens import FeedbackTokenError, FeedbackTokens
from serve_app.routes.feedback import BROWSER_METRIC, Feedback, FeedbackError, parse_feedback

BASE = {"decision_id": "d-1", "metric": "quality"}


def refused(body: object) -> str:
    with pytest.raises(FeedbackError) as error:
        parse_feedback(body)
    return error.value.param


@pytest.mark.parametrize("score", [0, 1, 0.0, 1.0, 0.5, -0.0])
def test_a_score_is_taken(score: float) -> None:
    feedback = parse_feedback(BASE | {"score": score})
    assert feedback == Feedback("d-1", "quality", float(score))
    assert str(feedback.score)[0] != "-"


@pytest.mark.parametrize(
    "score",
    [-0.001, 1.001, float("nan"), float("inf"), -float("inf"), 10**400, True, False, "1", "", None, [], {}],
)
def test_a_score_out_of_range_or_of_another_type_is_refused_by_name(score: object) -> None:
    assert refused(BASE | {"score": score}) == "score"


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.text(), st.none()))
def test_whatever_is_taken_is_a_finite_score(score: object) -> None:
    good = isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1
    if good:
        assert 0.0 <= parse_feedback(BASE | {"score": score}).score <= 1.0
    else:
        assert refused(BASE | {"score": score}) == "score"


def test_thumbs_corrections_and_comparisons_become_scores() -> None:
    assert parse_feedback({"decision_id": "d", "thumb": "up"}) == Feedback("d", "quality", 1.0)
    assert parse_feedback({"decision_id": "d", "thumb": "down"}).score == 0.0
    correction = parse_feedback({"decision_id": "d", "correction": "It is Paris."})
    assert correction.score == 0.0
    assert correction.detail is not None
    assert "Paris" not in correction.detail
    for preferred, score in (("this", 1.0), ("tie", 0.5), ("other", 0.0)):
        body = {"decision_id": "d", "comparison": {"decision_id": "e", "preferred": preferred}}
        assert parse_feedback(body) == Feedback("d", "quality", score, "e")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], "body"),
        (None, "body"),
        ({"score": 1}, "decision_id"),
        ({"decision_id": 3, "score": 1}, "decision_id"),
        ({"decision_id": "", "score": 1}, "decision_id"),
        ({"decision_id": "a b", "score": 1}, "decision_id"),
        ({"decision_id": "d" * 129, "score": 1}, "decision_id"),
        ({"decision_id": "d\n", "score": 1}, "decision_id"),
        ({"decision_id": "d"}, "score"),
        ({"decision_id": "d", "score": 1, "thumb": "up"}, "thumb"),
        ({"decision_id": "d", "score": 1, "scroe": 1}, "scroe"),
        ({"decision_id": "d", "score": 1, "metric": ""}, "metric"),
        ({"decision_id": "d", "score": 1, "metric": None}, "metric"),
        ({"decision_id": "d", "score": 1, "metric": BROWSER_METRIC}, "metric"),
        ({"decision_id": "d", "score": 1, "metric": "a" * 65}, "metric"),
        ({"decision_id": "d", "score": 1, "token": 3}, "token"),
        ({"decision_id": "d", "thumb": True}, "thumb"),
        ({"decision_id": "d", "thumb": "sideways"}, "thumb"),
        ({"decision_id": "d", "correction": " "}, "correction"),
        ({"decision_id": "d", "correction": 3}, "correction"),
        ({"decision_id": "d", "comparison": {"decision_id": "e"}}, "comparison"),
        ({"decision_id": "d", "comparison": {"decision_id": "e", "preferred": 1}}, "comparison.preferred"),
        (
            {"decision_id": "d", "comparison": {"decision_id": 1, "preferred": "tie"}},
            "comparison.decision_id",
        ),
        ({"decision_id": "d", "comparison": {"decision_id": "d", "preferred": "tie"}}, "comparison"),
    ],
)
def test_each_fault_names_its_field(body: object, param: str) -> None:
    assert refused(body) == param


def test_messages_do_not_repeat_what_was_sent() -> None:
    canary = "canary-1234"
    for body in (
        {"decision_id": f"{canary} x", "score": 1},
        {"decision_id": "d", "score": canary},
        {"decision_id": "d", "thumb": canary},
        {"decision_id": "d", "score": 1, "metric": f"{canary} x"},
    ):
        with pytest.raises(FeedbackError) as error:
            parse_feedback(body)
        assert canary not in str(error.value)


def test_a_vote_by_token_lands_under_one_metric_whatever_it_names() -> None:
    records = [
        parse_feedback({"decision_id": "d", "metric": metric, "score": 1, "token": "t"}).record("k", 1.0)
        for metric in ("quality", "speed")
    ]
    assert [(r.metric, r.detail) for r in records] == [(BROWSER_METRIC, "quality"), (BROWSER_METRIC, "speed")]
    by_key = parse_feedback({"decision_id": "d", "metric": "speed", "score": 1}).record("k", 1.0)
    assert (by_key.metric, by_key.key_id, by_key.received_s) == ("speed", "k", 1.0)


def test_a_token_speaks_for_its_decision_and_key_until_it_expires() -> None:
    now_s = [1000.0]
    tokens = FeedbackTokens("secret", 60.0, lambda: now_s[0])
    token = tokens.issue("d", "key-1")
    assert tokens.check(token, "d") == "key-1"
    with pytest.raises(FeedbackTokenError, match="not valid"):
        tokens.check(token, "e")
    with pytest.raises(FeedbackTokenError, match="not valid"):
        FeedbackTokens("other", 60.0, lambda: now_s[0]).check(token, "d")
    now_s[0] += 61.0
    with pytest.raises(FeedbackTokenError, match="expired"):
        tokens.check(token, "d")
    assert "secret" not in token


def test_a_token_outlives_a_restart_and_needs_a_secret() -> None:
    token = FeedbackTokens("secret").issue("d", "k")
    assert FeedbackTokens("secret").check(token, "d") == "k"
    with pytest.raises(ValueError, match="secret"):
        FeedbackTokens("")


@given(st.text(max_size=80))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(FeedbackTokenError):
        FeedbackTokens("secret").check(text, "d")


@given(st.integers(0, 200), st.integers(1, 127))
def test_a_changed_token_is_refused(place: int, by: int) -> None:
    tokens = FeedbackTokens("secret")
    token = tokens.issue("d", "key")
    place %= len(token)
    changed = token[:place] + chr(ord(token[place]) ^ by) + token[place + 1 :]
    with pytest.raises(FeedbackTokenError):
        tokens.check(changed, "d")


def test_parts_cannot_be_moved_between_decision_and_key() -> None:
    tokens = FeedbackTokens("secret", 60.0, lambda: 0.0)
    assert tokens.issue("ab", "c").split(".")[2] != tokens.issue("a", "bc").split(".")[2]
