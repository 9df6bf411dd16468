import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.model.engines.vllm_records import decision_id, merge
from deployments.records.records import EngineRecord


@pytest.mark.parametrize(
    ("request_id", "expected"),
    [
        ("chatcmpl-ab12", "ab12"),
        ("cmpl-ab12-0", "ab12"),
        ("embd-ab12-3", "ab12"),
        ("ab12_0", "ab12"),
        ("resp_ab12_0", "ab12"),
        ("chatcmpl-x-7", "x-7"),
        ("cmpl-x-7-0", "x-7"),
    ],
)
def test_the_decision_id_is_found_in_the_engines_id(request_id: str, expected: str) -> None:
    assert decision_id(request_id, {"ab12", "x-7"}) == expected


def test_the_id_of_a_request_that_nobody_dispatched_is_kept() -> None:
    assert decision_id("cmpl-a-0", set()) == "a-0"


def test_choices_merge_into_one_record() -> None:
    early = EngineRecord("r", 10, 5, queue_s=0.1, prefill_s=0.2, ttft_s=0.3, e2e_s=1.0, cached_tokens=8)
    late = EngineRecord("r", 10, 7, queue_s=0.2, prefill_s=0.3, ttft_s=0.5, e2e_s=2.0, cached_tokens=0)
    merged = merge([early, late], "decision")
    assert merged == EngineRecord(
        "decision", 10, 12, queue_s=0.1, prefill_s=0.2, ttft_s=0.3, e2e_s=2.0, cached_tokens=0
    )


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8))
def test_no_output_token_is_lost(counts: list[int]) -> None:
    records = [EngineRecord("r", 3, count, e2e_s=float(count)) for count in counts]
    assert merge(records, "d").output_tokens == sum(counts)
