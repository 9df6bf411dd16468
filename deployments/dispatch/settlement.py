"""Closes the loop: what came of a request settles its key's spending and moves its profile's multipliers."""

from collections.abc import Mapping

import numpy as np

from deployments.dispatch.dispatch import Dispatch
from deployments.dispatch.key_guard import KeyGuard
from deployments.dispatch.lengths import Lengths
from deployments.dispatch.masks import Reason
from deployments.dispatch.settings import DispatchSettings
from deployments.records.records import OutcomeRecord
from policies.closed_loop.duals import Duals, Paced
from policies.closed_loop.pacer import Foreseen
from policies.observation import CALLER_COLUMN, MODEL_COLUMN
from policies.outcome import Status
from policies.priced import cost_shares, priced_utility
from policies.profile import Profile

_ACCURACY, _COST_WEIGHT = MODEL_COLUMN["accuracy"], CALLER_COLUMN["cost_weight"]
_UNPACED = ("", Reason.PROFILE_BUDGET)


class Settlement:
    """The key guard, the multipliers of every profile, the lengths of texts. `now_s` is wall clock."""

    def __init__(self, settings: DispatchSettings) -> None:
        self.guard = KeyGuard(settings)
        self.lengths = Lengths()
        self._settings = settings
        self._duals: dict[str, Duals] = {}

    def reconfigure(self, settings: DispatchSettings, profiles: Mapping[str, Profile]) -> None:
        """Take new settings at once; the multipliers of `profiles` (by name) that did not change are kept."""
        self.guard.settings = self._settings = settings
        duals = {name: Duals(p, settings.duals.value(), settings.beta) for name, p in profiles.items()}
        for name, new in duals.items():
            old = self._duals.get(name)
            if old and (old.profile, old.settings, old.beta) == (new.profile, new.settings, new.beta):
                duals[name] = old
        self._duals = duals

    def duals(self, profile: Profile) -> Duals:
        """The multipliers in force for `profile`."""
        return self._duals[profile.name]

    def charge(self, dispatch: Dispatch, now_s: float) -> None:
        """Count a choice at its predicted cost, and note what its outcome will be compared with."""
        decision, key_id = dispatch.decision, dispatch.request.key_id
        cost_usd = dispatch.predicted_cost_usd
        if dispatch.is_named:
            self.guard.spend(key_id, now_s, cost_usd)
            return
        dispatch.foreseen = self._foreseen(dispatch)
        plausible = len(dispatch.observation.models) - len(dispatch.reasons)
        explored = decision.epsilon > 0.5 * decision.propensity * plausible
        price = float(dispatch.columns.completion_usd_per_mtok[decision.index])
        expensive = price >= self._settings.guard.expensive_factor * dispatch.columns.cheapest_usd_per_mtok
        self.guard.chosen(key_id, now_s, cost_usd, expensive=expensive, explored=explored)

    def withdraw(self, dispatch: Dispatch, now_s: float) -> None:
        """The choice was not carried out: what was charged for it comes back."""
        self.guard.spend(dispatch.request.key_id, now_s, -dispatch.predicted_cost_usd)

    def settle(
        self, dispatch: Dispatch, record: OutcomeRecord, now_s: float, *, is_counted: bool = True
    ) -> None:
        """Replace the prediction that was charged by what came of it. Once for each dispatch.

        `is_counted` False: the outcome's tokens are an estimate of ours.
        """
        outcome, row = record.outcome, dispatch.observation.rows[dispatch.decision.index]
        self.guard.spend(dispatch.request.key_id, now_s, outcome.cost_usd - dispatch.predicted_cost_usd)
        self._learn_lengths(dispatch, record, now_s, is_counted)
        duals = self._duals.get(dispatch.profile.name)
        if duals is not None and outcome.status in (Status.OK, Status.FAILED):
            quality = float(row[_ACCURACY]) if outcome.quality is None else outcome.quality
            duals.observe(outcome.cost_usd, quality, outcome.e2e_s, _paced(dispatch, record))

    def _learn_lengths(
        self, dispatch: Dispatch, record: OutcomeRecord, now_s: float, is_counted: bool
    ) -> None:
        prompt, columns = dispatch.request.prompt, dispatch.columns
        if prompt.tokens is not None or "vision" in prompt.needs:
            return  # tokens that are not of the text
        for model in dispatch.too_short:
            self.lengths.refused(model, prompt, columns.context_tokens[columns.index[model]], now_s)
        if is_counted and record.outcome.status is Status.OK:
            self.lengths.counted(record.model, prompt, record.outcome.prompt_tokens)

    def _foreseen(self, dispatch: Dispatch) -> Foreseen | None:
        """What the profile's pacer has to know of this request; None where the profile has no budget."""
        duals, observed = self._duals[dispatch.profile.name], dispatch.observation
        if duals.pacer is None:
            return None
        mask = np.array([dispatch.reasons.get(model, "") in _UNPACED for model in observed.models])
        caller, weight = observed.caller.copy(), observed.column("weight")
        caller[_COST_WEIGHT] -= duals.budget
        value = priced_utility(observed.rows, observed.prompt, caller, mask)
        shares = cost_shares(observed.rows, mask)
        return Foreseen(
            np.where(mask, weight * value, -np.inf), -weight * shares, observed.column("cost_usd")
        )


def _paced(dispatch: Dispatch, record: OutcomeRecord) -> Paced | None:
    """What the pacer learns: the model that answered in the end may be another than the chosen one. None
    where nobody answered and nothing was paid, which says nothing about what models cost."""
    models = dispatch.observation.models
    if dispatch.foreseen is None or record.model not in models:
        return None
    if record.outcome.status is Status.FAILED and not record.outcome.cost_usd:
        return None
    return Paced(models, dispatch.foreseen, models.index(record.model))
