"""For which models requests are planned: where they go, and where they would go if none were asleep."""

from typing import Final

import numpy as np

from deployments.dispatch.dispatch import Dispatch
from deployments.dispatch.masks import PASSING, Reason
from deployments.dispatch.policy_host import PolicyHost
from policies.arrays import F64, Bools
from policies.observation import COLD, E2E_S, PROMPT_COLUMN, TTFT_S, Observation
from policies.scaling import Planned

_ASKED_EVERY: Final = 4  # request of which the policy is asked a second time, while a model sleeps
_LEAST_SHARE: Final = 0.001
_PROMPT_TOKENS: Final = PROMPT_COLUMN["prompt_tokens"]


class Planner:
    """Adds up in `totals`, by model and since the beginning: the table compares two readings of it.

    A request for a model that is named counts there, whoever answers in its place. One for `auto` counts with
    its probabilities; models that sleep, which others stand in for, with those that they would have awake.
    """

    def __init__(self, host: PolicyHost) -> None:
        self.totals: dict[str, Planned] = {}
        self._host = host
        self._turn = 0

    def chosen(self, dispatch: Dispatch) -> None:
        """A model was chosen."""
        asleep = _because(dispatch, Reason.ASLEEP)
        if dispatch.chain:
            named = dispatch.observation.models.index(dispatch.request.requested)
            self._add(dispatch, named if asleep[named] else dispatch.decision.index)
            self.name(dispatch.request.requested)
            return
        plausible = len(dispatch.observation.models) - len(dispatch.reasons)
        explored = dispatch.epsilon / plausible if dispatch.stay is None else 0.0
        for index, probability in enumerate(dispatch.probabilities.tolist()):
            share = (probability - explored) / (1.0 - explored * plausible)  # to explore wakes nobody
            if share >= _LEAST_SHARE:
                self._add(dispatch, index, share)
        if not asleep.any():
            return
        self._turn = (self._turn + 1) % _ASKED_EVERY
        if self._turn == 0:
            shares = self._shares(dispatch, dispatch.observation.mask | asleep, awake=True)
            for index in np.flatnonzero(asleep & (shares >= _LEAST_SHARE)).tolist():
                self._add(dispatch, index, _ASKED_EVERY * float(shares[index]))

    def refused(self, dispatch: Dispatch) -> str:
        """No model may take the request; returns the one that is asked to wake for it, "" where none sleeps.

        Of several it is the policy's favourite, the time until each would serve being a part of its latency.
        """
        asleep = _because(dispatch, Reason.ASLEEP)
        if not asleep.any():
            return ""
        models = dispatch.observation.models
        if dispatch.chain:
            model = next(one for one in dispatch.chain if asleep[models.index(one)])
        else:
            model = models[int(np.argmax(self._shares(dispatch, asleep, awake=False)))]
        self.name(model)
        return model

    def missed(self, dispatch: Dispatch) -> int:
        """Index of the policy's favourite among the models that may answer once they are there."""
        reasons = dispatch.reasons
        away = np.array([reasons.get(one) in PASSING for one in dispatch.observation.models], dtype=bool)
        return int(np.argmax(self._shares(dispatch, away, awake=False)))

    def _shares(self, dispatch: Dispatch, mask: Bools, *, awake: bool) -> F64:
        """[M] the policy's probabilities with `mask` [M]; `awake`: as if every model had a replica."""
        seen, rows = dispatch.observation, dispatch.observation.rows
        if awake:
            waits, rows = dispatch.columns.ready_in_s, rows.copy()
            rows[:, (TTFT_S, E2E_S)] -= waits[:, None]
            rows[waits > 0.0, COLD] = 0.0
        seen = Observation(seen.models, rows, seen.prompt, seen.caller, mask)
        return self._host.choose(seen, dispatch.assigned or None, 0.0)[0]

    def name(self, model: str) -> None:
        """Somebody asked for the model by its name."""
        self.totals[model] = self.totals.get(model, Planned()) + Planned(named=1.0)

    def _add(self, dispatch: Dispatch, index: int, share: float = 1.0) -> None:
        model, rows = dispatch.observation.models[index], dispatch.observation.rows
        alone_s = float(dispatch.columns.latency.alone_s(dispatch.observation.prompt[_PROMPT_TOKENS])[index])
        writing_s = float(rows[index, E2E_S] - rows[index, TTFT_S])
        part = Planned(share, 0.0, share * alone_s, share * (alone_s + writing_s))
        self.totals[model] = self.totals.get(model, Planned()) + part


def _because(dispatch: Dispatch, reason: Reason) -> Bools:
    """[M] the models that are masked for one reason."""
    return np.array([dispatch.reasons.get(one) == reason for one in dispatch.observation.models], dtype=bool)
