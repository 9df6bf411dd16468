"""A small file of scored prompts, as the benchmarks of quality read it."""

import json
from pathlib import Path


def written(path: Path, count: int, priced: bool = True, gaps: bool = False) -> Path:
    lines = []
    for i in range(count):
        sums = i % 2 == 0
        scores = {"small": 1.0 if sums else 0.1, "large": 0.9}
        if gaps and i % 5 == 0:
            del scores["large"]
        row = {
            "prompt": f"Sum {i} and {i * 7}" if sums else f"请解释第{i}章的内容",
            "task": "sum" if sums else "explain",
            "scores": scores,
        }
        if priced:
            row["costs"] = {"small": 0.001, "large": 0.01}
        lines.append(json.dumps(row, ensure_ascii=False))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
