"""Keeps the store within its limits: how long each kind of record is kept."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """How long decisions, outcomes and votes are kept: whichever comes first.

    Graded answers stay for `age_s` at least and for as long as no newer revision has replaced them.
    """

    age_s: float = 30 * 86_400.0
    rows: int = 200_000  # about 1 GB of decisions
