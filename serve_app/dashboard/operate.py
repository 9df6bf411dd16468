"""The view Operate: what an admin may change. Each change is first shown, then made, then recorded."""

from collections.abc import Mapping
from typing import Any, Final

from deployments.records.records import PolicyEvent
from deployments.records.snapshot import Snapshot
from deployments.table.api import TableApi
from policies.decider import version_name
from policies.promotion.rollout import RolloutState
from serve_app.cluster_file.changes import changes
from serve_app.cluster_file.history import entries, record
from serve_app.console.errors import CommandError
from serve_app.console.versions import Action, make_change, planned_change
from serve_app.dashboard.serve_pool import Config, Pool, dispatch_of, with_dispatch
from serve_app.dashboard.visit import Visitor
from serve_app.http.errors import ApiError, bad_request, not_found

ROLLOUT: Final = ("pause", "resume", "promote", "rollback")
CONFIG: Final = ("weights", "drain", "undrain")
_WEIGHTS: Final = ("accuracy", "latency", "cost")
_MOST_WEIGHT: Final = 100.0
_HISTORY: Final = 50

Difference = dict[str, Any]


class Operate:
    """Rollouts go to the table, settings of dispatch to Serve.

    What is set here holds until a deployed file says otherwise; `fastserve plan` shows the difference.
    """

    def __init__(self, table: TableApi, pool: Pool) -> None:
        self._table, self._pool = table, pool

    async def state(self, snapshot: Snapshot) -> dict[str, Any]:
        """What there is to change, and what was changed before."""
        config, rollout = await self._pool.config(), await self._table.rollout()
        events = await self._table.policy_events()
        dispatch = dispatch_of(config)
        profiles = {"": dispatch.weights, **{n: p.weights for n, p in dispatch.profiles.items()}}
        return {
            "paused": rollout.paused,
            "active": version_name(rollout.active),
            "candidate": rollout.candidate and version_name(rollout.candidate.version),
            "versions": sorted({e.version for e in events if e.kind == "trained"}, reverse=True),
            "profiles": {n: (w or dispatch.weights).model_dump() for n, w in profiles.items()},
            "models": {name: name in dispatch.limits.drained for name in sorted(snapshot.models)},
            "history": await self._history(events),
        }

    async def _history(self, events: list[PolicyEvent]) -> list[dict[str, Any]]:
        """Who changed what, newest first: rollouts by hand, and configs."""
        made: list[dict[str, Any]] = [
            {"at_s": e.at_s, "who": e.detail["by"], "what": f"{e.kind} {version_name(e.version or None)}"}
            for e in events
            if "by" in e.detail
        ]
        made += [{"at_s": e.at_s, "who": e.who, "what": e.what} for e in await entries(self._table)]
        return sorted(made, key=lambda one: -one["at_s"])[:_HISTORY]

    async def act(self, name: str, body: Mapping[str, Any], visitor: Visitor) -> dict[str, Any]:
        """Show what an action changes; make it where the body says `confirm: true`. Raises ApiError."""
        confirmed = body.get("confirm") is True
        if name in ROLLOUT:
            return await self._roll(name, body, visitor, confirmed)
        if name in CONFIG:
            return await self._configure(name, body, visitor, confirmed)
        raise not_found(name)

    async def _roll(
        self, name: str, body: Mapping[str, Any], visitor: Visitor, confirmed: bool
    ) -> dict[str, Any]:
        version = body.get("version")
        if version is not None and not (isinstance(version, int) and not isinstance(version, bool)):
            raise bad_request("'version' must be a whole number.", "version")
        action = Action(name, version, by=visitor.key.name)
        try:
            before, after, _ = await planned_change(self._table, action)
            if confirmed:
                await make_change(self._table, action)
        except CommandError as error:
            raise ApiError(409, str(error), code="nothing_changed") from error
        return {"changes": _rollout_differences(before, after), "done": confirmed}

    async def _configure(
        self, name: str, body: Mapping[str, Any], visitor: Visitor, confirmed: bool
    ) -> dict[str, Any]:
        config = await self._pool.config()
        changed, what = _edited(config, name, body)
        differences = [_split(reason) for one in changes(config, changed) for reason in one.reasons]
        if confirmed and differences:
            await self._pool.apply(changed, visitor.key.name)
            await record(self._table, visitor.key.name, what, changed, healthy=True)
        return {"changes": differences, "done": confirmed}


def _edited(config: Config, name: str, body: Mapping[str, Any]) -> tuple[Config, str]:
    """The config after an action, and the words of the history for it."""
    if name == "weights":
        profile, weights = body.get("profile", ""), _weights(body)
        if profile and profile not in dispatch_of(config).profiles:
            raise bad_request(f"Profile '{str(profile)[:64]}' is not configured.", "profile")

        def weigh(dispatch: dict[str, Any]) -> None:
            if not profile:
                dispatch["weights"] = weights
                return
            profiles = dispatch["profiles"] = dict(dispatch["profiles"])
            profiles[profile] = {**(profiles[profile] or {}), "weights": weights}

        return with_dispatch(config, weigh), f"dashboard: weights of '{profile or 'auto'}'"
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise bad_request("'model' must be the id of a model.", "model")

    def drain(dispatch: dict[str, Any]) -> None:
        limits = dispatch["limits"] = dict(dispatch.get("limits") or {})
        drained = [one for one in limits.get("drained") or () if one != model]
        limits["drained"] = [*drained, model] if name == "drain" else drained

    return with_dispatch(config, drain), f"dashboard: {name} '{model}'"


def _weights(body: Mapping[str, Any]) -> dict[str, float]:
    weights = {}
    for name in _WEIGHTS:
        value = body.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MOST_WEIGHT:
            raise bad_request(f"'{name}' must be a number from 0 to {_MOST_WEIGHT:g}.", name)
        weights[name] = float(value)
    return weights


def _split(reason: str) -> Difference:
    what, _, values = reason.partition(": ")
    before, _, after = values.partition(" -> ")
    return {"what": what.removeprefix("user_config."), "before": before, "after": after}


def _rollout_differences(before: RolloutState, after: RolloutState) -> list[Difference]:
    """What a change of the rollout means, in the words of the state."""
    old, new = _told(before), _told(after)
    return [{"what": name, "before": old[name], "after": new[name]} for name in old if old[name] != new[name]]


def _told(state: RolloutState) -> dict[str, str]:
    trial = state.candidate
    return {
        "active": version_name(state.active),
        "on trial": "none" if trial is None else f"{version_name(trial.version)}, {trial.stage}",
        "paused": "yes" if state.paused else "no",
        "learning rests": "no" if state.frozen_since_s is None else "yes",
    }
