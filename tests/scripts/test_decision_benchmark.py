"""bench.py decision: its prompts are of the stated lengths, and it times what the ingress runs."""

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks.serving.decision import (
    MEDIAN_CHARACTERS,
    P99_CHARACTERS,
    made_prompts,
    read_prompts,
    run,
)


def test_made_prompts_have_the_lengths_of_real_ones() -> None:
    median, p99 = np.percentile([len(prompt) for prompt in made_prompts(4_000, 0)], [50, 99])
    assert median == pytest.approx(MEDIAN_CHARACTERS, rel=0.1)
    assert p99 == pytest.approx(P99_CHARACTERS, rel=0.3)


def test_prompts_are_read_from_plain_and_compressed_lines(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"prompt": text, "scores": [1]}) for text in ("one", "二"))
    (tmp_path / "p.jsonl").write_text(lines)
    with gzip.open(tmp_path / "p.jsonl.gz", "wt") as file:
        file.write(lines)
    assert read_prompts(tmp_path / "p.jsonl") == read_prompts(tmp_path / "p.jsonl.gz") == ["one", "二"]


def test_a_short_run_reports_every_case_and_its_bars() -> None:
    report = run(argparse.Namespace(models="2,8", data=None, decisions=60, seed=0))
    cases = report.results["cases"]
    assert isinstance(cases, list)
    assert [(case["models"], case["policy"]) for case in cases] == [
        (2, "priced"),
        (2, "learned"),
        (8, "priced"),
        (8, "learned"),
    ]
    assert all(0.0 < case["p50_us"] <= case["p99_us"] for case in cases)
    assert [bar.name for bar in report.bars] == [
        "decision.priced.p50_us",
        "decision.priced.p99_us",
        "decision.learned.p50_us",
        "decision.learned.p99_us",
        "features, 8 kB, p50_us",
        "tokens, 8 kB, p50_us",
    ]
