import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from policies.simulator.scored_prompts import MOST_MODELS, read_quality, scored_prompts, synthetic_prompts


def _file(path: Path, prompts: int = 240, models: int = 2) -> Path:
    rng = np.random.default_rng(0)
    lines = []
    for i in range(prompts):
        maths = i % 2 == 0
        text = f"compute {i} + {i * 3} = ?" if maths else f"tell me a story about the sea and the wind {i}"
        scores = {
            f"m{k}": float(rng.random() < (0.9 if maths == (k % 2 == 0) else 0.2)) for k in range(models)
        }
        lines.append(json.dumps({"prompt": text, "task": "maths" if maths else "story", "scores": scores}))
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_a_file_becomes_a_table_with_disjoint_rows_and_useful_predictions(tmp_path: Path) -> None:
    prompts = scored_prompts(_file(tmp_path / "q.jsonl.gz"), seed=0)
    assert prompts.names == ("m0", "m1")
    assert set(prompts.train_rows.tolist()).isdisjoint(prompts.test_rows.tolist())
    assert len(prompts.train_rows) + len(prompts.test_rows) == 240
    assert prompts.table.prompt[:, 0].min() > 0
    for rows in (prompts.train_rows, prompts.test_rows):
        score, accuracy = prompts.table.score[rows], prompts.table.accuracy[rows]
        chosen = score[np.arange(len(rows)), accuracy.argmax(axis=1)].mean()
        assert chosen > score.mean(axis=0).max() + 0.15
    assert {prompts.tasks[i] for i in prompts.test_rows} == {"maths", "story"}


def test_a_file_of_many_models_is_thinned_over_their_order(tmp_path: Path) -> None:
    prompts = scored_prompts(_file(tmp_path / "q.jsonl.gz", models=20), seed=0)
    assert len(prompts.names) == MOST_MODELS
    means = prompts.table.score.mean(axis=0)
    assert np.all(np.diff(means) >= 0.0)


def test_bad_lines_and_short_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"prompt": "a", "scores": {"m": 1.0}}\n{"prompt": 3}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_quality(path)
    path.write_text('{"prompt": "a", "scores": {"m": 1.0}}\n')
    with pytest.raises(ValueError, match="holds 1 prompts"):
        read_quality(path)


def test_synthetic_prompts_are_split_in_halves() -> None:
    prompts = synthetic_prompts(3, 100, seed=0)
    assert prompts.train_rows.tolist() == list(range(50))
    assert prompts.test_rows.tolist() == list(range(50, 100))
    assert prompts.table.models == len(prompts.names) == 3
