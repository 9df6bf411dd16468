"""The generated items: a training stream, the stored suites, and traffic with known answers."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scripts.models import (
    content_creation,
    customer_service,
    document_generation,
    policy_text,
    recommendation,
)
from scripts.models.item import Item, Make
from scripts.models.wording import Language, Split

SUITE_SEED = 20_261_125


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of item: how it is made, how many of each language the suites hold, and whether it is short.

    The short ones (a label, a number copied, a date) are what the tiny model is trained for. What is not
    `taught` no model of the pool is trained on.
    """

    make: Make
    english: int
    chinese: int
    short: bool = False
    taught: bool = True


TASKS = (
    Task(customer_service.intent, 14, 8, short=True),
    Task(customer_service.sentiment, 12, 6, short=True),
    Task(customer_service.order_number, 12, 6, short=True),
    Task(policy_text.policy_answer, 14, 8),
    Task(content_creation.tone, 10, 6, short=True),
    Task(content_creation.topic, 10, 6, short=True),
    Task(content_creation.advert, 10, 6),
    Task(content_creation.bullet_list, 10, 6),
    Task(content_creation.slogan, 10, 6, short=True),
    Task(document_generation.document_kind, 10, 6, short=True),
    Task(document_generation.iso_date, 10, 6, short=True),
    Task(document_generation.contact_json, 10, 6),
    Task(document_generation.contract_json, 10, 6),
    Task(document_generation.markdown_note, 10, 6),
    Task(recommendation.department, 12, 8, short=True),
    Task(recommendation.pick_letter, 12, 8),
    Task(recommendation.pick_name, 12, 8),
    Task(recommendation.pick_budget, 12, 8),
    Task(content_creation.paragraph, 14, 4, taught=False),
)


def suite_items() -> list[Item]:
    """The items of the stored suites, the same at every call; no prompt occurs twice."""
    rng = random.Random(SUITE_SEED)
    items: dict[str, Item] = {}
    for task in TASKS:
        languages: tuple[tuple[Language, int], ...] = (("en", task.english), ("zh", task.chinese))
        for language, count in languages:
            wanted = len(items) + count
            while len(items) < wanted:
                item = task.make("suite", language, rng)
                items.setdefault(item.prompt, item)
    return list(items.values())


def stream(
    split: Split, seed: int, chinese_share: float = 0.4, tasks: Sequence[Task] = TASKS
) -> Iterator[Item]:
    """Endless items of `tasks` in equal parts, in wordings of `split` only."""
    rng = random.Random(f"{split}-{seed}")
    while True:
        language: Language = "zh" if rng.random() < chinese_share else "en"
        yield rng.choice(tasks).make(split, language, rng)


def training_items(seed: int, chinese_share: float = 0.4, short_only: bool = False) -> Iterator[Item]:
    """Endless training items; `short_only` leaves out what only a larger model can learn."""
    tasks = [task for task in TASKS if task.taught and (task.short or not short_only)]
    return stream("train", seed, chinese_share, tasks)


def traffic_items(seed: int) -> Iterator[Item]:
    """Endless user requests with known answers, in wordings that neither the suites nor training have."""
    return stream("traffic", seed)
