"""Hints are what a search for each mark finds."""

from hypothesis import given
from hypothesis import strategies as st

from policies.prompt.hints import CODE_MARKS, MATHS_MARKS, STRUCTURE_MARKS, hints

MARKS = (CODE_MARKS, MATHS_MARKS, STRUCTURE_MARKS)
pieces = st.sampled_from([mark[:end] for marks in MARKS for mark in marks for end in range(1, len(mark) + 1)])


@given(st.text(max_size=50) | st.lists(pieces | st.text(max_size=2), max_size=6).map("".join))
def test_hints_are_what_a_search_for_each_mark_finds(text: str) -> None:
    expected = tuple(any(mark in text for mark in marks) for marks in MARKS)
    assert hints(text.encode("utf-8", "surrogatepass")) == expected
