"""Dollar limits need prices: a model that costs nothing slips through every one of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from deployments.dispatch.settings import ProfileSettings
from deployments.keys.file import read_key_file
from deployments.keys.key import Key, by_digest
from deployments.model.config import ModelConfig
from deployments.model.settings import ModelSettings
from deployments.records.snapshot import ModelCard
from serve_app.config import IngressSettings

_BUILD_MODEL: Final = "serve_app.app:build_model"


def unpriced(
    cards: Iterable[ModelCard], keys: Sequence[Key], settings: IngressSettings
) -> list[tuple[str, str]]:
    """(model, sentence) for each dollar limit under which a model has price 0; none where all is well."""
    free = sorted(c.model for c in cards if not (c.prompt_usd_per_mtok or c.completion_usd_per_mtok))
    return [
        (
            model,
            f"{limit} is a limit in dollars, but model '{model}' has price 0: give it one or take it out.",
        )
        for limit, models in _limits(keys, settings)
        for model in free
        if models is None or model in models
    ]


def dollar_limit(key: Key, settings: IngressSettings, profile: str) -> str:
    """A limit in dollars that binds a request of the key under a profile, as operators name it, or ""."""
    team, chosen = settings.teams.get(key.team), settings.dispatch.profiles.get(profile)
    if key.limits.dollars is not None:
        return _of_key(key)
    if team is not None and team.budget is not None:
        return _of_team(key.team)
    if settings.dispatch.guard.key_usd_per_day > 0.0:
        return _OF_THE_GUARD
    return next(_of_profile(profile, chosen), "") if chosen is not None else ""


def unpriced_in(document: Mapping[str, Any], keys: Iterable[Key] = ()) -> list[tuple[str, str]]:
    """The same of a Serve config whose parts are valid, and of the keys that are to hold."""
    cards, settings = [], IngressSettings()
    for application in document.get("applications", ()):
        live = {d.get("name"): d.get("user_config") or {} for d in application.get("deployments") or ()}
        if application.get("import_path") == _BUILD_MODEL:
            config = ModelConfig.model_validate(application.get("args") or {})
            cards.append(config.card(ModelSettings.model_validate(live.get("Model", {}))))
        if "Ingress" in live:
            settings = IngressSettings.model_validate(live["Ingress"])
    return unpriced(cards, tuple(keys), settings)


def keys_in(file: Path) -> tuple[Key, ...]:
    """The keys of a key file; none where there is no file. Raises ValueError, OSError."""
    return tuple(by_digest(read_key_file(file).keys).values()) if file.exists() else ()


def _limits(keys: Sequence[Key], settings: IngressSettings) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """Each limit in dollars, and the models that it binds; None is all."""
    dispatch = settings.dispatch
    for key in keys:
        if key.limits.dollars is not None:
            yield _of_key(key), key.limits.models
    for name, team in settings.teams.items():
        members = [key.limits.models for key in keys if key.team == name]
        if team.budget is not None and members:
            named = [models for models in members if models is not None]
            whole = len(named) < len(members)
            yield _of_team(name), None if whole else tuple(m for some in named for m in some)
    if dispatch.guard.key_usd_per_day > 0.0:
        yield _OF_THE_GUARD, None
    for name, profile in dispatch.profiles.items():
        for limit in _of_profile(name, profile):
            yield limit, profile.allowed


_OF_THE_GUARD: Final = "'dispatch.guard.key_usd_per_day'"


def _of_key(key: Key) -> str:
    name = "budget" if key.limits.usd_per_day is None else "usd_per_day"
    return f"'{name}' of key '{key.name}'"


def _of_team(name: str) -> str:
    return f"'budget' of team '{name}'"


def _of_profile(name: str, profile: ProfileSettings) -> Iterator[str]:
    if profile.budget_usd > 0.0:
        yield f"'budget_usd' of profile '{name}'"
    if profile.budget is not None:
        yield f"'budget' of profile '{name}'"
