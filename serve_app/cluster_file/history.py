"""The configs that were applied, with who and when, as the durable store has them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from deployments.table.api import TableApi
from serve_app.cluster_file.changes import SIGNS, changes

NAME: Final = "config"  # of these changes among all that the store has


@dataclass(frozen=True, slots=True)
class Entry:
    """One applied config; `number` counts from 1. `what` is `deploy`, `rollback to N` or `found running`."""

    number: int
    at_s: float
    who: str
    what: str
    healthy: bool
    config: dict[str, Any]

    @classmethod
    def read(cls, number: int, at_s: float, detail: dict[str, Any]) -> Self:
        """An entry as it was stored."""
        return cls(number, at_s, detail["who"], detail["what"], detail["healthy"], detail["config"])

    def line(self, before: Self | None) -> tuple[object, ...]:
        """Its row in the table of `fastserve history`, with what it changed of the entry before."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at_s))
        changed = changes(before.config if before else {}, self.config)
        names = ", ".join(f"{SIGNS[one.kind]}{one.subject}" for one in changed)
        return self.number, when, self.who, self.what, "yes" if self.healthy else "NO", names


async def record(table: TableApi, who: str, what: str, config: dict[str, Any], healthy: bool) -> None:
    """Store that a config was applied."""
    await table.config_change(NAME, {"who": who, "what": what, "healthy": healthy, "config": config})


async def entries(table: TableApi) -> list[Entry]:
    """All of them, oldest first."""
    rows = await table.config_changes(NAME)
    return [Entry.read(number, at_s, detail) for number, (at_s, detail) in enumerate(rows, start=1)]


def good_entry(found: Sequence[Entry], number: int | None) -> Entry:
    """The entry to go back to: the one named, else the last healthy one before the newest.

    Raises:
        ValueError: there is none, or the one named was never healthy.
    """
    healthy = [entry for entry in found if entry.healthy]
    if number is not None:
        for entry in healthy:
            if entry.number == number:
                return entry
        known = ", ".join(str(entry.number) for entry in healthy) or "none"
        raise ValueError(f"Entry {number} of the history is no healthy config. Healthy: {known}.")
    if len(healthy) < 2:
        raise ValueError("The history has no healthy config before the present one.")
    return healthy[-1] if not found[-1].healthy else healthy[-2]
