"""The versions of the policy: list, show, promote, rollback, shadow, pause, resume."""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from deployments.learning.rollout import RolloutState, TrialState
from deployments.records.records import PolicyEvent
from deployments.table.actor import RayTable, TableError
from policies.decider import version_name
from serve_app.console.connection import CommandError, connect

ACTIONS: Final = ("list", "show", "promote", "rollback", "shadow", "pause", "resume")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Action, version and how it is shown."""
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument(
        "version",
        type=int,
        nargs="?",
        help="show takes by itself the one on trial, or active",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--address", default="auto", help="Ray cluster (default: the one on this machine)")


def run(args: argparse.Namespace) -> int:
    """Do it and print what is now."""
    try:
        return asyncio.run(act(RayTable(connect(args.address)), args, print))
    except TableError as error:
        raise CommandError(str(error)) from error


async def act(table: Any, args: argparse.Namespace, say: Callable[[str], None]) -> int:
    """The action on a table; apart from `run` so that it works on a plain Table too."""
    events: list[PolicyEvent] = await table.policy_events()
    state = RolloutState.read(await table.policy_state())
    if args.action in {"list", "show"}:
        shown = (
            versions(state, events) if args.action == "list" else history(events, _shown(args, state, events))
        )
        say(json.dumps(shown) if args.json else _text(shown))
        return 0
    changed = await _ACT[args.action](table, state, args, events)
    await table.set_policy_state(changed.model_dump(mode="json"))
    say(json.dumps(changed.model_dump(mode="json")) if args.json else _summary(changed))
    return 0


def versions(state: RolloutState, events: Sequence[PolicyEvent]) -> list[dict[str, object]]:
    """One row a version, newest first; version 0 is the formula."""
    rows: dict[int, dict[str, object]] = {
        0: {"version": 0, "name": "formula", "state": "", "last": "always loaded"}
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


def _shown(args: argparse.Namespace, state: RolloutState, events: Sequence[PolicyEvent]) -> int:
    """The version to show: the one asked for, else the one on trial, else the active one."""
    if args.version is not None:
        return _known(args, events)
    version = state.candidate.version if state.candidate is not None else state.active
    if version is None:
        raise CommandError("The formula serves and no version is on trial: name the version to show.")
    return version


def _known(args: argparse.Namespace, events: Sequence[PolicyEvent]) -> int:
    known = sorted({event.version for event in events if event.kind == "trained"})
    if args.version not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise CommandError(f"Version '{args.version}' of the policy is not known. Known: {listed}.")
    return int(args.version)


async def _promote(
    table: Any, state: RolloutState, args: argparse.Namespace, events: Sequence[PolicyEvent]
) -> RolloutState:
    version = _known(args, events)
    await table.policy_event(PolicyEvent(version, time.time(), "promoted", {"by": "operator"}))
    return state.replace(candidate=TrialState(version=version, stage="canary")).promoted(time.time(), None)


async def _rollback(
    table: Any, state: RolloutState, args: argparse.Namespace, events: Sequence[PolicyEvent]
) -> RolloutState:
    if state.active is None and state.candidate is None:
        raise CommandError("The formula serves and no candidate is on trial: nothing to roll back.")
    dropped = state.candidate.version if state.candidate is not None else state.active
    await table.policy_event(PolicyEvent(dropped or 0, time.time(), "rolled_back", {"reason": "operator"}))
    return state.rolled_back(time.time())


async def _shadow(
    table: Any, state: RolloutState, args: argparse.Namespace, events: Sequence[PolicyEvent]
) -> RolloutState:
    version = _known(args, events)
    now = time.time()
    await table.policy_event(PolicyEvent(version, now, "shadow", {"by": "operator"}))
    return state.replace(candidate=TrialState(version=version, stage="shadow", started_s=now, since_s=now))


async def _pause(
    table: Any, state: RolloutState, args: argparse.Namespace, events: Sequence[PolicyEvent]
) -> RolloutState:
    return state.replace(paused=args.action == "pause")


Act = Callable[[Any, RolloutState, argparse.Namespace, Sequence[PolicyEvent]], Awaitable[RolloutState]]
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
