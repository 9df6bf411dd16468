"""What applying a config file would change in a running cluster, application by application."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["added", "removed", "restarted", "changed live", "ignored"]

# A change of these replaces the replicas of all deployments of the application.
_APP_RESTARTS: Final = ("import_path", "args", "runtime_env", "autoscaling_policy")
# A change of these replaces the replicas of one deployment; everything else in an entry changes live.
_DEPLOYMENT_RESTARTS: Final = (
    "ray_actor_options",
    "placement_group_bundles",
    "placement_group_strategy",
    "max_replicas_per_node",
    "gang_scheduling_config",
    "request_router_config",
    "deployment_actors",
)
SIGNS: Final = {"added": "+", "removed": "-", "restarted": "!", "changed live": "~", "ignored": "?"}
_TOP: Final = ("proxy_location", "http_options", "grpc_options", "controller_options")


@dataclass(frozen=True, slots=True)
class Change:
    """One change: what it does to whom, and the keys behind it as `path: old -> new`."""

    kind: Kind
    subject: str
    reasons: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """As people read it: what happens to whom, and a line for each reason."""
        return [f"{SIGNS[self.kind]} {self.kind}: {self.subject}", *(f"    {one}" for one in self.reasons)]


def changes(running: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Change]:
    """What turns one config into the other; empty where nothing would change."""
    before, after = _by_name(running), _by_name(wanted)
    found = [Change("added", name) for name in after if name not in before]
    found += [Change("removed", name) for name in before if name not in after]
    for name in after:
        if name in before:
            found += _app_changes(name, before[name], after[name])
    for key in _TOP:
        if key in running and key in wanted:
            reasons = tuple(_differences(key, _alike(running[key], wanted[key]), wanted[key]))
            found += [Change("ignored", f"{key}, until Serve is started anew", reasons)] if reasons else []
    return found


def _alike(running: object, wanted: object) -> object:
    """The keys that the file names: a running Serve tells its defaults too."""
    if isinstance(running, Mapping) and isinstance(wanted, Mapping):
        return {key: running.get(key) for key in wanted}
    return running


def removes_service(running: Mapping[str, Any], wanted: Mapping[str, Any], builder: str) -> bool:
    """Whether a cluster that has apps of this builder would be left without any."""
    had = any(app.get("import_path") == builder for app in running.get("applications") or ())
    has = any(app.get("import_path") == builder for app in wanted.get("applications") or ())
    return had and not has


def _by_name(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(app["name"]): app for app in config.get("applications") or ()}


def _app_changes(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    reasons = [text for key in _APP_RESTARTS for text in _differences(key, before.get(key), after.get(key))]
    if reasons:
        yield Change("restarted", name, tuple(reasons))
    live = list(_differences("route_prefix", before.get("route_prefix", "/"), after.get("route_prefix", "/")))
    old, new = _deployments(before), _deployments(after)
    for deployment in dict.fromkeys((*old, *new)):
        first, second = old.get(deployment, {}), new.get(deployment, {})
        here = f"{name}.{deployment}"
        restarts = _entry_differences(first, second, _DEPLOYMENT_RESTARTS)
        if restarts and not reasons:
            yield Change("restarted", here, tuple(restarts))
        others = sorted({*first, *second} - {*_DEPLOYMENT_RESTARTS, "name"})
        if changed := _entry_differences(first, second, others):
            yield Change("changed live", here, tuple(changed))
    if live:
        yield Change("changed live", name, tuple(live))


def _deployments(app: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(entry["name"]): entry for entry in app.get("deployments") or ()}


def _entry_differences(before: Mapping[str, Any], after: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    return [text for key in keys for text in _differences(key, before.get(key), after.get(key))]


def _differences(path: str, before: object, after: object) -> Iterator[str]:
    """`path: old -> new` of each value that differs; an empty mapping or list is as good as none."""
    before, after = _plain(before), _plain(after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*before, *after)):
            yield from _differences(f"{path}.{key}", before.get(key), after.get(key))
    elif before != after:
        yield f"{path}: {_shown(before)} -> {_shown(after)}"


def _plain(value: object) -> object:
    return None if isinstance(value, Mapping | list) and not value else value


def _shown(value: object) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
