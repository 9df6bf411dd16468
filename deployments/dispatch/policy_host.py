"""Holds the policies and models in use: loads artifacts, swaps them live, and lets the formula step in."""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final, Protocol

from deployments.dispatch.settings import BreakerSettings, DispatchSettings
from deployments.logger import get_logger
from deployments.records.snapshot import Snapshot
from policies.arrays import F64
from policies.decider import FORMULA, PRICED, Decider, learned
from policies.decision import hash64, is_distribution, uniform_from_seed
from policies.latency.model import LatencyModel
from policies.learned.policy import LearnedPolicy
from policies.observation import Observation
from policies.policy import FormulaPolicy, Policy, PolicyError
from policies.priced import PricedPolicy
from policies.profile import Profile
from policies.promotion.rollout import RolloutState, Stage
from policies.promotion.slices import serves
from policies.prompt.features import PromptFeatures
from policies.quality.model import QualityModel


class ArtifactLoaders:
    """The loaders in use. Importing them compiles what they need: nothing is compiled while serving."""

    def quality(self, data: bytes, revision: str) -> QualityModel:
        """Raises ValueError for bytes that are not a quality model of this version."""
        return QualityModel.from_bytes(data)

    def policy(self, data: bytes) -> Policy:
        """Raises ValueError for bytes that are not a learned policy of this version, or not finite."""
        return LearnedPolicy.from_bytes(data)


logger = get_logger(__name__)

QUALITY: Final = "quality"
LATENCY: Final = "latency"
POLICY: Final = "policy:"
_SPARE: Final = 3  # versions kept that the rollout does not use now
_LOG_EVERY: Final = 100  # a policy that fails at every request fills no disk

Fetch = Callable[[str], Awaitable[tuple[str, bytes]]]


class Quality(Protocol):
    """What dispatch needs of a quality model."""

    revision: str

    def predict(self, features: PromptFeatures, models: tuple[str, ...]) -> tuple[F64, F64]:
        """Mean [M] and standard error [M] of the score, NaN for models that it does not know."""

    def least_prediction(self, models: tuple[str, ...], floor: float, alpha: float) -> float | None:
        """From which predicted score on choices keep to a floor; see policies.quality.model."""


class Loaders(Protocol):
    """Makes objects of artifacts' bytes; raises ValueError for bytes that are not fit for use."""

    def quality(self, data: bytes, revision: str) -> Quality:
        """A quality model."""

    def policy(self, data: bytes) -> Policy:
        """A learned policy."""


@dataclass(slots=True)
class _Held:
    """One learned version, with its breaker: closed while `open_until_s` lies in the past."""

    policy: Policy
    revision: str
    open_until_s: float = 0.0


class PolicyHost:
    """The priced rule and the formula, always; learned versions and models as the table publishes them."""

    def __init__(
        self, settings: DispatchSettings, loaders: Loaders, clock: Callable[[], float] = perf_counter
    ) -> None:
        self.reconfigure(settings)
        self.quality: Quality | None = None
        self.latency = LatencyModel()
        self.fallbacks: Counter[str] = Counter()  # by reason
        self._loaders = loaders
        self._clock = clock
        self._versions: dict[int, _Held] = {}
        self._used: frozenset[int] = frozenset()  # versions that the rollout names
        self._loaded: dict[str, str] = {}  # artifact -> revision, refused ones included

    @property
    def breaker(self) -> BreakerSettings:
        """The settings in force."""
        return self._settings.breaker

    def reconfigure(self, settings: DispatchSettings) -> None:
        """Take new settings. A learned version keeps the beta that it was trained and gated with."""
        self.rule, self.formula = PricedPolicy(settings.beta), FormulaPolicy(settings.beta)
        self._settings = settings

    def wanted(self, snapshot: Snapshot) -> list[str]:
        """Artifacts that the table has and this host lacks, in the revision that the table has."""
        self._used = snapshot.rollout.versions
        used = {QUALITY, LATENCY, *(f"{POLICY}{version}" for version in self._used)}
        return [
            n for n, revision in snapshot.artifacts.items() if n in used and self._loaded.get(n) != revision
        ]

    async def refresh(self, snapshot: Snapshot, fetch: Fetch) -> None:
        """Fetch and install what is wanted. For a background task of the ingress, after each new snapshot."""
        for name in self.wanted(snapshot):
            revision, data = await fetch(name)
            await asyncio.to_thread(self.install, name, revision, data)  # megabytes, so off the loop

    def install(self, name: str, revision: str, data: bytes) -> bool:
        """Load one artifact and swap it in; refused bytes are logged and leave in place what was there."""
        self._loaded[name] = revision
        try:
            self._load(name, revision, data)
        except Exception as error:  # bytes from a store: whatever is wrong with them, what serves goes on
            self.fallbacks["artifact"] += 1
            logger.error("Artifact '%s', revision '%s', refused: %s", name, revision, error)
            return False
        logger.info("Artifact '%s', revision '%s', in use.", name, revision)
        return True

    def _load(self, name: str, revision: str, data: bytes) -> None:
        if name == QUALITY:
            self.quality = self._loaders.quality(data, revision)
        elif name == LATENCY:
            self.latency = LatencyModel.from_bytes(data)
        elif name.startswith(POLICY):
            version = int(name.removeprefix(POLICY))
            self.hold(version, self._loaders.policy(data), revision)

    def hold(self, version: int, policy: Policy, revision: str = "") -> None:
        """Keep `policy` as `version`, and the newest ones among those that the rollout does not use."""
        self._versions[version] = _Held(policy, revision)
        spare = [kept for kept in sorted(self._versions) if kept not in self._used and kept != version]
        for old in spare[:-_SPARE]:
            del self._versions[old]
            self._loaded.pop(f"{POLICY}{old}", None)

    def predicted_quality(self, features: PromptFeatures, models: tuple[str, ...]) -> tuple[F64, F64] | None:
        """Mean [M] and standard error [M] of the score, NaN where unknown; None without a working model."""
        if self.quality is None:
            return None
        try:
            mean, std = self.quality.predict(features, models)
        except Exception as error:  # a fitted model is replaceable data: the request is served without it
            self._count(f"quality {self.quality.revision}", "quality", repr(error))
            return None
        return (mean, std) if mean.shape == std.shape == (len(models),) else None

    def least_prediction(self, profile: Profile, models: tuple[str, ...]) -> float | None:
        """From which predicted score on a model keeps to the profile's floor; None where nobody can tell."""
        allowed = tuple(model for model in models if profile.allowed is None or model in profile.allowed)
        known = self.quality
        least = (
            None if known is None else known.least_prediction(allowed, profile.quality_floor, profile.alpha)
        )
        if least is None:
            told = "no quality model that can tell: the floor does not hold"
            self._count(f"quality floor of '{profile.name}'", "floor", told)
        elif math.isinf(least):
            told = f"no choice keeps to {profile.alpha:g} below {profile.quality_floor:g}: the best is chosen"
            self._count(f"quality floor of '{profile.name}'", "floor unreachable", told)
        return least

    @staticmethod
    def assigned(rollout: RolloutState, unit: str, now_s: float) -> int | None:
        """The version whose turn it is: the candidate in its slices of time, else the active one.

        A share of the active one's requests, and of its slices of time, is left to the version before, which
        its alarms compare it with.
        `unit` is what keeps one of these two throughout: a session, or a single decision. `now_s` is wall
        clock.
        """
        candidate = rollout.candidate
        if candidate is not None and serves(candidate, now_s):
            return candidate.version
        if rollout.active is None:
            return None
        before = rollout.yardstick
        if before is not None and serves(before, now_s):
            return rollout.previous
        is_left = _drawn(f"before {rollout.active}:{unit}", rollout.yardstick_share)
        return rollout.previous if is_left else rollout.active

    def choose(self, observation: Observation, version: int | None, epsilon: float) -> tuple[F64, Decider]:
        """Probabilities [M], and by whom: `version`, the priced rule where there is none, the formula where
        either fails."""
        if version is None:
            return self._priced(observation, epsilon)
        held = self._versions.get(version)
        if held is None:
            return self._fall_back(observation, epsilon, version, "missing")
        started_s = self._clock()
        if started_s < held.open_until_s:
            return self._fall_back(observation, epsilon, version, "breaker")
        try:
            probabilities = held.policy.probabilities(observation, epsilon)
            why = "" if is_distribution(probabilities, observation.mask) else "nonfinite"
        except PolicyError as error:
            why, probabilities = f"nonfinite: {error}", observation.caller
        except Exception as error:  # a policy is replaceable code: whatever it raises, the request is served
            why, probabilities = f"error: {error!r}", observation.caller
        took_s = self._clock() - started_s
        if took_s > self.breaker.decision_s:
            held.open_until_s = self._clock() + self.breaker.cooldown_s
            return self._fall_back(observation, epsilon, version, f"breaker: {took_s * 1e3:.0f} ms")
        if why:
            return self._fall_back(observation, epsilon, version, why)
        return probabilities, learned(version)

    def shadow(self, rollout: RolloutState, observation: Observation, epsilon: float, seed: int) -> str:
        """`version:model` that a candidate in shadow would choose, "" where there is none or it failed."""
        candidate = rollout.candidate
        if candidate is None or candidate.stage is not Stage.SHADOW:
            return ""
        held = self._versions.get(candidate.version)
        if held is None or self._clock() < held.open_until_s:
            return ""
        started_s = self._clock()
        try:
            model = held.policy.decide(observation, seed, epsilon).model
        except Exception as error:  # the same reason as in choose; a shadow costs the user nothing
            self._count(f"shadow of {learned(candidate.version).name}", "shadow", repr(error))
            return ""
        if self._clock() - started_s > self.breaker.decision_s:
            held.open_until_s = self._clock() + self.breaker.cooldown_s
        return f"{candidate.version}:{model}"

    def would_choose(self, version: int | None, observation: Observation, seed: int) -> int | None:
        """Index of the model that a version (None: the priced rule) would choose; None where it fails."""
        held = None if version is None else self._versions.get(version)
        if version is not None and held is None:
            return None
        try:
            return (self.rule if held is None else held.policy).decide(observation, seed).index
        except Exception as error:  # the same reason as in choose; nobody waits for this
            self._count("graded choice", "graded", repr(error))
            return None

    def baseline(self, observation: Observation, epsilon: float, why: str) -> tuple[F64, Decider]:
        """The formula's choice where a guard asks for it, named `why`."""
        self.fallbacks[why] += 1
        return self._formula(observation, epsilon, why)

    def _priced(self, observation: Observation, epsilon: float) -> tuple[F64, Decider]:
        try:
            return self.rule.probabilities(observation, epsilon), PRICED
        except PolicyError as error:  # a row holds what is no number
            self._count(PRICED.name, "nonfinite", repr(error))
            return self._formula(observation, epsilon, "nonfinite")

    def _formula(self, observation: Observation, epsilon: float, fallback: str) -> tuple[F64, Decider]:
        decider = replace(FORMULA, fallback=fallback)
        return self.formula.probabilities(observation, epsilon), decider

    def _fall_back(
        self, observation: Observation, epsilon: float, version: int, why: str
    ) -> tuple[F64, Decider]:
        reason, _, detail = why.partition(": ")
        self._count(learned(version).name, reason, detail)
        return self._formula(observation, epsilon, reason)

    def _count(self, who: str, reason: str, detail: str) -> None:
        self.fallbacks[reason] += 1
        if self.fallbacks[reason] % _LOG_EVERY == 1:
            logger.error(
                "Policy '%s' fell back (%s, %d so far): %s",
                who,
                reason,
                self.fallbacks[reason],
                detail or reason,
            )


def _drawn(name: str, share: float) -> bool:
    """Whether what is called `name` falls into this share of all; the same on every machine."""
    return uniform_from_seed(hash64(name)) < share
