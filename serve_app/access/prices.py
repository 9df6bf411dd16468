"""Dollar limits need prices: a model that costs nothing slips through every one of them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from deployments.dispatch.settings import DispatchSettings
from deployments.model.config import ModelConfig
from deployments.records.snapshot import ModelCard
from serve_app.access.keys import Key
from serve_app.config import IngressSettings

_BUILD_MODEL: Final = "serve_app.app:build_model"


def unpriced(cards: Iterable[ModelCard], keys: Iterable[Key], dispatch: DispatchSettings) -> list[str]:
    """One sentence for each dollar limit under which a model has price 0; none where all is well."""
    free = sorted(c.model for c in cards if not (c.prompt_usd_per_mtok or c.completion_usd_per_mtok))
    return [
        f"{limit} is a limit in dollars, but model '{model}' has price 0: give it one or take it out."
        for limit, models in _limits(keys, dispatch)
        for model in free
        if models is None or model in models
    ]


def require_prices(document: Mapping[str, Any], keys: Iterable[Key] = ()) -> None:
    """Check a Serve config before it is deployed. Raises ValueError naming limits and models."""
    cards, dispatch = [], DispatchSettings()
    for application in document.get("applications", ()):
        if application.get("import_path") == _BUILD_MODEL:
            cards.append(ModelConfig.model_validate(application.get("args") or {}).card())
        for deployment in application.get("deployments") or ():
            if deployment.get("name") == "Ingress":
                dispatch = IngressSettings.model_validate(deployment.get("user_config") or {}).dispatch
    found = unpriced(cards, keys, dispatch)
    if found:
        raise ValueError("\n".join(found))


def _limits(keys: Iterable[Key], dispatch: DispatchSettings) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """Each limit in dollars, and the models that it binds; None is all."""
    for key in keys:
        if key.limits.usd_per_day is not None:
            yield f"'usd_per_day' of key '{key.name}'", key.limits.models
    if dispatch.guard.key_usd_per_day > 0.0:
        yield "'dispatch.guard.key_usd_per_day'", None
    for name, profile in dispatch.profiles.items():
        if profile.budget_usd > 0.0:
            yield f"'budget_usd' of profile '{name}'", profile.allowed
