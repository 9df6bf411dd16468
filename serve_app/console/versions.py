"""What `fastserve policy` does: which version of the policy serves, which is on trial, and to change it."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from deployments.records.records import PolicyEvent
from deployments.table.api import TableApi
from deployments.table.errors import ConflictError
from policies.decider import version_name
from policies.promotion.rollout import Candidate, RolloutState, Stage
from serve_app.console.errors import CommandError

Change = tuple[RolloutState, PolicyEvent]  # the new state, and what the history says of it


@dataclass(frozen=True, slots=True)
class Action:
    """What to do with which version; `show` takes by itself the one on trial, or the active one."""

    name: str
    version: int | None = None
    as_json: bool = False
    by: str = "operator"  # whom the history names


async def act(table: TableApi, action: Action, say: Callable[[str], None]) -> int:
    """The action on a table, on Ray or plain."""
    if action.name in {"list", "show"}:
        events, state = await table.policy_events(), await table.rollout()
        shown = (
            versions(state, events)
            if action.name == "list"
            else history(events, _shown(action, state, events))
        )
        say(json.dumps(shown) if action.as_json else _text(shown))
        return 0
    changed = await make_change(table, action)
    say(json.dumps(asdict(changed)) if action.as_json else _summary(changed))
    return 0


async def planned_change(table: TableApi, action: Action) -> tuple[RolloutState, RolloutState, PolicyEvent]:
    """The state now, the state after an action, and the step for the history. Raises CommandError."""
    events, state = await table.policy_events(), await table.rollout()
    return state, *_ACT[action.name](state, action, events)


async def make_change(table: TableApi, action: Action) -> RolloutState:
    """Make an action's change and write it to the history. Raises CommandError where nothing was changed."""
    _, changed, event = await planned_change(table, action)
    try:
        changed = await table.set_rollout(changed)
    except ConflictError as error:
        raise CommandError(f"Nothing was changed. {error} The same command does that.") from error
    await table.policy_event(event)
    return changed


def versions(state: RolloutState, events: Sequence[PolicyEvent]) -> list[dict[str, object]]:
    """One row a version, newest first; version 0 is the priced rule."""
    rows: dict[int, dict[str, object]] = {
        0: {"version": 0, "name": "priced", "state": "", "last": "always loaded"}
    }
    for event in sorted(events, key=lambda event: event.at_s):
        row = rows.setdefault(event.version, {"version": event.version, "name": version_name(event.version)})
        row["last"] = _told(event)
        row["at"] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at_s))
    for version, row in rows.items():
        row["state"] = _state_of(state, version)
    return [rows[version] for version in sorted(rows, reverse=True)]


def history(events: Sequence[PolicyEvent], version: int) -> list[dict[str, object]]:
    """Every step and number of one version, oldest first."""
    mine = sorted((event for event in events if event.version == version), key=lambda event: event.at_s)
    return [{"at_s": event.at_s, "kind": event.kind, **event.detail} for event in mine]


def _state_of(state: RolloutState, version: int) -> str:
    if version == (state.active or 0):
        return "active"
    if state.candidate is not None and version == state.candidate.version:
        return f"{state.candidate.stage} {state.candidate.share:.0%}"
    return "previous" if version == (state.previous or 0) and state.active is not None else ""


def _told(event: PolicyEvent) -> str:
    detail = event.detail
    if event.kind == "verdict":
        verdict = "passed" if detail.get("passed") else "not passed"
        return f"gate {detail.get('gate')}: {verdict}, {detail.get('reason')}"
    return f"{event.kind} {detail.get('reason', '')}".strip()


def _shown(action: Action, state: RolloutState, events: Sequence[PolicyEvent]) -> int:
    """The version to show: the one asked for, else the one on trial, else the active one."""
    if action.version is not None:
        return _known(action, events)
    version = state.candidate.version if state.candidate is not None else state.active
    if version is None:
        raise CommandError("The priced rule serves and no version is on trial: name the version to show.")
    return version


def _known(action: Action, events: Sequence[PolicyEvent]) -> int:
    known = sorted({event.version for event in events if event.kind == "trained"})
    if action.version not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise CommandError(f"Version '{action.version}' of the policy is not known. Known: {listed}.")
    return int(action.version)


def _promote(state: RolloutState, action: Action, events: Sequence[PolicyEvent]) -> Change:
    version, now_s = _known(action, events), time.time()
    changed = replace(state, candidate=Candidate(version, Stage.CANARY)).promoted(now_s)
    return changed, PolicyEvent(version, now_s, "promoted", {"by": action.by})


def _rollback(state: RolloutState, action: Action, events: Sequence[PolicyEvent]) -> Change:
    if state.active is None and state.candidate is None:
        raise CommandError("The priced rule serves and no candidate is on trial: nothing to roll back.")
    dropped = state.candidate.version if state.candidate is not None else state.active
    now_s = time.time()
    event = PolicyEvent(dropped or 0, now_s, "rolled_back", {"reason": "operator", "by": action.by})
    return state.rolled_back(now_s), event


def _shadow(state: RolloutState, action: Action, events: Sequence[PolicyEvent]) -> Change:
    version, now_s = _known(action, events), time.time()
    candidate = Candidate(version, Stage.SHADOW, started_s=now_s, since_s=now_s)
    return replace(state, candidate=candidate), PolicyEvent(version, now_s, "shadow", {"by": action.by})


def _pause(state: RolloutState, action: Action, events: Sequence[PolicyEvent]) -> Change:
    kind = "paused" if action.name == "pause" else "resumed"
    event = PolicyEvent(state.active or 0, time.time(), kind, {"by": action.by})
    return replace(state, paused=action.name == "pause"), event


Act = Callable[[RolloutState, Action, Sequence[PolicyEvent]], Change]
_ACT: Final[dict[str, Act]] = {
    "promote": _promote,
    "rollback": _rollback,
    "shadow": _shadow,
    "pause": _pause,
    "resume": _pause,
}


def _summary(state: RolloutState) -> str:
    active = version_name(state.active)
    trial = state.candidate
    on_trial = "none" if trial is None else f"{version_name(trial.version)}, {trial.stage} {trial.share:.0%}"
    return f"active: {active}\non trial: {on_trial}\npaused: {'yes' if state.paused else 'no'}"


def _text(rows: Sequence[dict[str, object]]) -> str:
    if rows and "kind" in rows[0]:
        return "\n".join(f"{_time(row)}  {_step(row)}" for row in rows)
    headers = ("version", "name", "state", "last")
    table = [headers, *(tuple(str(row.get(name, "")) for name in headers) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(headers))]
    return "\n".join(
        "  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip() for line in table
    )


def _time(row: dict[str, object]) -> str:
    return time.strftime("%H:%M:%S", time.localtime(float(str(row["at_s"]))))


def _step(row: dict[str, object]) -> str:
    rest = {name: value for name, value in row.items() if name not in {"at_s", "kind", "numbers", "curve"}}
    told = ", ".join(f"{name} {value}" for name, value in rest.items() if value not in ("", {}, None))
    return f"{row['kind']}: {told}" if told else str(row["kind"])
