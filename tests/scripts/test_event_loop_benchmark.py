"""The bodies of `bench.py event_loop` are as large as it says, and the worst of their kind that is let in."""

import pytest

from scripts.benchmarks.faults.event_loop import BYTES, SHAPES


@pytest.mark.parametrize("shape", SHAPES)
def test_a_body_is_two_mebibytes_at_most(shape: str) -> None:
    made = SHAPES[shape]()
    path, raw = made if isinstance(made, tuple) else ("/v1/chat/completions", made)
    assert path.startswith("/")
    assert len(raw) <= BYTES + 256
