"""bench.py answer_length: lengths or costs of a file, and what the style of a prompt tells of them."""

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks.load.answer_length import run


def written(path: Path, key: str, unit: float) -> Path:
    """Lists are answered at length, questions briefly; nothing but the style tells them apart."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(60):
        prompt, tokens = ("- one\n- two", 300) if i % 2 else ("one and two", 30)
        tokens = max(int(tokens * random.normal(1.0, 0.1)), 1)
        rows.append({"prompt": prompt, "task": None, "scores": {"a": 1.0}, key: {"a": tokens * unit}})
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    return path


@pytest.mark.parametrize(("key", "unit"), [("output_tokens", 1), ("costs", 1e-6)])
def test_style_tells_the_length(tmp_path: Path, key: str, unit: float) -> None:
    data = written(tmp_path / "set.jsonl.gz", key, unit)
    found = run(argparse.Namespace(data=[data], models=7, seeds=2)).results["set"]
    assert isinstance(found, dict)
    assert found["correlation"]["served"]["mean"] > 0.9
    assert found["correlation"]["served"]["mean"] > found["correlation"]["prompt fields only"]["mean"]


def test_a_file_without_lengths_is_refused(tmp_path: Path) -> None:
    data = written(tmp_path / "set.jsonl.gz", "other", 1)
    with pytest.raises(SystemExit, match="neither 'output_tokens' nor 'costs'"):
        run(argparse.Namespace(data=[data], models=7, seeds=2))
