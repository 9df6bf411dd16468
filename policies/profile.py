"""A profile: the named trade-off and limits of a scenario, such as `customer-service`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from policies.utility import Weights

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a scenario asks of the dispatch. 0 or None means that there is no such limit.

    `target_s` is a latency target in seconds, `budget_usd` a mean cost per request: both are kept in
    closed loop (policies.closed_loop.duals). `quality_floor` in [0, 1] masks models whose evaluated score is
    below it; with `alpha`, for each prompt those with which a larger share of answers would fall below it.
    `sticky` keeps a session on its model while that model is healthy.
    """

    name: str = ""  # "" is the profile of a plain `auto`
    weights: Weights = field(default_factory=Weights)
    target_s: float = 0.0
    allowed: tuple[str, ...] | None = None
    quality_floor: float = 0.0
    alpha: float = 0.0  # share of answers that may fall below the floor; 0: the floor is one for models
    tasks: tuple[str, ...] = ()  # evaluated tasks that the floor looks at; empty: all
    budget_usd: float = 0.0
    sticky: bool = False
    generation_defaults: Mapping[str, object] = field(default_factory=dict)


def is_auto(requested: str) -> bool:
    """Whether a request's `model` leaves the choice to the policy: `auto` or `auto:<profile>`."""
    return requested.partition(":")[0] == AUTO


def auto_name(profile: str) -> str:
    """The `model` that selects a profile: `auto:<profile>`, and `auto` for ""."""
    return f"{AUTO}:{profile}" if profile else AUTO


def selected_profile(requested: str) -> str:
    """The profile's name in `auto:<profile>`; "" for `auto`."""
    return requested.partition(":")[2]


class UnknownProfileError(ValueError):
    """A request named a profile that the config does not have."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        listed = ", ".join(f"'{profile}'" for profile in known) or "none"
        super().__init__(f"Profile '{name}' is not configured. Configured: {listed}.")
        self.name = name
        self.known = known
