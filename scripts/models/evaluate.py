"""Grades local weights on suites, without a server: `python -m scripts.models.evaluate FOLDER...`.

To judge a training it asks greedily through transformers; `fastserve evaluate` asks the served pool. What
the file of `--json` holds is not asked again: new items cost only themselves, new weights need a new file.
"""

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest
from tqdm import tqdm

from deployments.suites import graders
from deployments.suites.item import Item
from deployments.suites.suite import load_suite

BATCH_ITEMS = 24


@dataclass(frozen=True, slots=True)
class Result:
    """One model's scores and answers by item id; `tokens_per_cpu_s` of one greedy stream."""

    model: str
    scores: dict[str, float]
    answers: dict[str, str]
    tokens_per_cpu_s: float


def ask(folder: Path, items: list[Item]) -> Result:
    """Ask the model in `folder` every item, greedily, and grade the answers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    answers: dict[str, str] = {}
    ordered = iter(sorted(items, key=lambda item: (item.max_tokens, len(str(item.messages)))))
    with tqdm(total=len(items), desc=folder.name) as bar:
        while batch := list(islice(ordered, BATCH_ITEMS)):
            answers.update(zip((item.id for item in batch), _generate(model, tokenizer, batch), strict=True))
            bar.update(len(batch))
    scores = {item.id: graders.grade(item, answers[item.id]).score for item in items}
    return Result(folder.name, scores, answers, _decode_speed(model))


def _decode_speed(model: Any) -> float:
    """Tokens per CPU second (other work on the machine leaves it alone) of one stream, best of three."""
    prompt = torch.full((1, 16), 5)
    best_s = float("inf")
    for _ in range(3):
        started = time.process_time()
        with torch.inference_mode():
            model.generate(prompt, min_new_tokens=64, max_new_tokens=64, do_sample=False, pad_token_id=0)
        best_s = min(best_s, time.process_time() - started)
    return 64 / best_s


def _generate(model: Any, tokenizer: Any, batch: list[Item]) -> list[str]:
    """The answers to a batch; each is cut at its own item's `max_tokens`."""
    chats = [
        tokenizer.apply_chat_template(list(item.messages), add_generation_prompt=True, tokenize=False)
        for item in batch
    ]
    inputs = tokenizer(chats, return_tensors="pt", padding=True, add_special_tokens=False)
    longest = max(item.max_tokens for item in batch)
    with torch.inference_mode():
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=longest,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    new = output[:, inputs["input_ids"].shape[1] :]
    return [
        tokenizer.decode(ids[: item.max_tokens], skip_special_tokens=True)
        for item, ids in zip(batch, new, strict=True)
    ]


def accuracy(result: Result, items: list[Item], key: str) -> dict[str, float]:
    """Mean score by the items' field `key` (`task` or `profile`), over those that were asked."""
    groups: dict[str, list[float]] = defaultdict(list)
    for item in items:
        if item.id not in result.scores:
            continue
        groups[getattr(item, key)].append(result.scores[item.id])
    return {name: sum(scores) / len(scores) for name, scores in groups.items()}


def paired_p(first: Result, second: Result, ids: list[str]) -> float:
    """McNemar's exact test: two-sided p that both are right equally often on the items where they differ."""
    wins = sum(first.scores[one] > second.scores[one] for one in ids)
    losses = sum(first.scores[one] < second.scores[one] for one in ids)
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def table(results: list[Result], items: list[Item], key: str) -> str:
    """A Markdown table of accuracy, one row per task or profile."""
    columns = [accuracy(result, items, key) for result in results]
    lines = [f"| {key} | " + " | ".join(result.model for result in results) + " |"]
    lines.append("|---|" + "---|" * len(results))
    lines += [
        f"| {name} | " + " | ".join(f"{column[name]:.2f}" for column in columns) + " |" for name in columns[0]
    ]
    return "\n".join(lines)


def significance(results: list[Result], items: list[Item]) -> str:
    """A Markdown table of the paired test between each two models, by profile."""
    lines = ["| profile | pair | p (McNemar, exact) |", "|---|---|---|"]
    for profile in dict.fromkeys(item.profile for item in items):
        ids = [item.id for item in items if item.profile == profile]
        for first, second in combinations(results, 2):
            lines.append(
                f"| {profile} | {first.model}, {second.model} | {paired_p(first, second, ids):.2g} |"
            )
    return "\n".join(lines)


def to_json(results: list[Result], items: list[Item]) -> dict[str, Any]:
    return {
        result.model: {
            "by_task": accuracy(result, items, "task"),
            "by_profile": accuracy(result, items, "profile"),
            "tokens_per_cpu_s": round(result.tokens_per_cpu_s, 1),
            "answers": result.answers,
            "scores": result.scores,
        }
        for result in results
    }


def read_results(path: Path) -> dict[str, Result]:
    """The results that earlier runs wrote to `path`, by model."""
    stored = json.loads(path.read_text()) if path.is_file() else {}
    return {
        name: Result(name, entry["scores"], entry["answers"], entry["tokens_per_cpu_s"])
        for name, entry in stored.items()
    }


def complete(folder: Path, items: list[Item], known: Result | None) -> Result:
    """The model's results on all items, of which only those are asked that are not known."""
    left = [item for item in items if known is None or item.id not in known.scores]
    new = ask(folder, left) if left else None
    parts = [part for part in (known, new) if part is not None]
    scores = {name: score for part in parts for name, score in part.scores.items()}
    answers = {name: text for part in parts for name, text in part.answers.items()}
    return Result(
        folder.name,
        {item.id: scores[item.id] for item in items},
        {item.id: answers[item.id] for item in items},
        parts[0].tokens_per_cpu_s,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="folders with model and tokenizer")
    parser.add_argument("--suite", type=Path, nargs="+", default=sorted(Path("suites").glob("*.jsonl")))
    parser.add_argument(
        "--json", type=Path, help="write accuracies, answers and scores here, and keep what it holds"
    )
    arguments = parser.parse_args()
    items = [item for path in arguments.suite for item in load_suite(path).items]
    known = read_results(arguments.json) if arguments.json else {}
    known |= {folder.name: complete(folder, items, known.get(folder.name)) for folder in arguments.models}
    results = [result for result in known.values() if all(item.id in result.scores for item in items)]
    print(
        table(results, items, "profile"),
        table(results, items, "task"),
        significance(results, items),
        sep="\n\n",
    )
    if arguments.json:
        arguments.json.write_text(
            json.dumps(to_json(list(known.values()), items), ensure_ascii=False, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
