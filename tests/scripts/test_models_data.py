import json
import random
from itertools import islice, pairwise
from pathlib import Path

import pytest

from deployments.suites import graders
from deployments.suites.suite import load_suite, parse_item
from scripts.models.data import TASKS, stream, suite_items, traffic_items, training_items
from scripts.models.item import Item
from scripts.models.wording import Split, Wordings, expand
from scripts.models.write_suites import suite_files

SUITES = Path(__file__).parents[2] / "suites"
SPLITS: tuple[Split, ...] = ("train", "suite", "traffic")


def graded(item: Item, answer: str) -> float:
    return graders.grade(parse_item(json.loads(item.to_json())), answer).score


def test_stored_suites_are_what_the_script_writes() -> None:
    written = suite_files()
    assert {path.name for path in SUITES.glob("*.jsonl")} == set(written)
    for name, text in written.items():
        assert (SUITES / name).read_text(encoding="utf-8") == text


def test_each_profile_has_at_least_sixty_items_in_both_languages() -> None:
    for path in SUITES.glob("*.jsonl"):
        items = load_suite(path).items
        assert {item.profile for item in items} == {path.stem}
        assert len(items) >= 60
        assert min(sum(item.language == language for item in items) for language in ("en", "zh")) >= 20


@pytest.mark.parametrize("split", SPLITS)
def test_the_taught_answer_is_right_and_another_items_answer_is_wrong(split: Split) -> None:
    items = list(islice(stream(split, seed=3), 600))
    assert all(graded(item, item.target) == 1.0 for item in items)
    others = [(item, other) for item, other in pairwise(items) if item.task != other.task]
    assert sum(graded(item, other.target) for item, other in others) / len(others) < 0.05


def test_splits_share_no_wording() -> None:
    wordings = Wordings(*"abcdefghij")
    parts = [set(wordings.of(split)) for split in SPLITS]
    assert set.union(*parts) == set("abcdefghij")
    assert sum(map(len, parts)) == 10


def test_a_split_needs_a_wording_of_its_own() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        Wordings("a", "b", "c", "d")


def test_no_suite_prompt_occurs_in_training_or_traffic() -> None:
    suite = {item.prompt for item in suite_items()}
    assert len(suite) == len(suite_items())
    seen = {item.prompt for item in islice(training_items(0), 4_000)}
    seen |= {item.prompt for item in islice(traffic_items(0), 4_000)}
    assert not suite & seen


def test_traffic_has_every_task_and_repeats_with_its_seed() -> None:
    first, again, other = (list(islice(traffic_items(seed), 800)) for seed in (1, 1, 2))
    assert first == again != other
    assert len({item.task for item in first}) == 2 * len(TASKS)


def test_expand_chooses_fills_and_leaves_no_marks() -> None:
    rng = random.Random(0)
    texts = {expand("[Please |]send the {thing}[.|!]", rng, {"thing": "lamp"}) for _ in range(50)}
    assert texts == {"Please send the lamp.", "Please send the lamp!", "send the lamp.", "send the lamp!"}


def test_no_prompt_keeps_an_unfilled_slot() -> None:
    for split in SPLITS:
        for item in islice(stream(split, seed=5), 500):
            assert "{" not in item.prompt
            assert "[" not in item.prompt
