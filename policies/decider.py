"""Who decided a request: the policy, its version, and what qualified the decision."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

MISSING: Final = "missing"  # the version has not arrived at this ingress
_FAULTS: Final = frozenset({"error", "nonfinite", "breaker"})
_STICKY: Final = "sticky"
_FALLBACK: Final = "fallback="


@dataclass(frozen=True, slots=True)
class Decider:
    """Who decided one request. Its text form, such as `learned@7;sticky`, goes to the log and to the caller.

    `version` is that of a learned policy; `fallback` says why `policy` stood in for another one, "" where
    it did not; `sticky`: the decision was made for a whole session, which keeps its model.
    """

    policy: str
    version: int | None = None
    fallback: str = ""
    sticky: bool = False

    @property
    def is_fault(self) -> bool:
        """Whether another policy stood in because the assigned one failed."""
        return self.fallback in _FAULTS

    @property
    def name(self) -> str:
        """Policy and version, without the qualifiers: `learned@7`."""
        return self.policy if self.version is None else f"{self.policy}@{self.version}"

    @property
    def label(self) -> str:
        """The text form without the version, which would make a new metric series for each."""
        return str(replace(self, version=None))

    def __str__(self) -> str:
        """The text form: `learned@7`, `learned@7;sticky`, `formula;fallback=error`."""
        fallback = f";{_FALLBACK}{self.fallback}" if self.fallback else ""
        return self.name + fallback + (f";{_STICKY}" if self.sticky else "")

    @classmethod
    def parse(cls, text: str) -> "Decider":
        """The decider of a text form. Raises ValueError for what is none."""
        return _parsed(text)


PRICED: Final = Decider("priced")  # decides until something learned is better
FORMULA: Final = Decider("formula")  # the last fallback
NAMED: Final = Decider("named")  # the caller chose
NOBODY: Final = Decider("none")  # no model was allowed


def learned(version: int) -> Decider:
    """A version of the learned policy."""
    return Decider("learned", version)


def version_name(version: int | None) -> str:
    """How the version of a rollout is called: `learned@7`, and `priced` for None."""
    return (PRICED if version is None else learned(version)).name


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Decider:
    name, *qualifiers = text.split(";")
    policy, _, version = name.partition("@")
    fallback = "".join(q.removeprefix(_FALLBACK) for q in qualifiers if q.startswith(_FALLBACK))
    decider = Decider(policy, int(version) if version.isdecimal() else None, fallback, _STICKY in qualifiers)
    if not policy or str(decider) != text:
        raise ValueError(
            f"Decider '{text[:100]}' is not '<policy>[@<version>][;fallback=<reason>][;sticky]'."
        )
    return decider
