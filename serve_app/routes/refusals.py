"""Why nothing in the pool may take a request, as the caller is told it."""

from collections.abc import Collection, Mapping

from deployments.dispatch.masks import NoModelError, Reason
from deployments.records.snapshot import ModelRow
from serve_app.body.calls import Call
from serve_app.http.errors import (
    ApiError,
    bad_request,
    context_too_long,
    missing_capability,
    model_asleep,
    model_not_allowed,
    model_unpriced,
    overloaded,
    unavailable,
)

_NOT_MEANT = frozenset({Reason.NOT_NAMED, Reason.WEIGHT})
_DRAINED_S = 60.0  # an operator who drains a model takes longer than a second


def refusal(
    error: NoModelError, call: Call, models: Mapping[str, ModelRow], dollar_limit: str = ""
) -> ApiError:
    """The answer to a request that masks out every model.

    What may pass by waiting (load, health) comes before what will not (context, capability, permission): a
    model has the former reason only where none of the latter holds for it.
    """
    model, needs = call.model, call.prompt.needs
    reasons = {name: why for name, why in error.reasons.items() if why not in _NOT_MEANT}
    kinds: Collection[str] = set(reasons.values())
    if not error.reasons:
        return unavailable("The pool has no model yet.", "no_models")
    if Reason.OVER_LIMIT in kinds:
        return overloaded(f"No capacity is left for '{model}'.", "overloaded")
    if kinds == {Reason.DRAINED}:
        message = f"'{model}' takes no requests now: an operator drains it."
        return unavailable(message, "model_drained", _DRAINED_S)
    if error.wakes:
        return model_asleep(error.wakes, error.ready_in_s)
    if Reason.UNHEALTHY in kinds or Reason.ASLEEP in kinds:
        silent = unavailable(f"No healthy replica can answer for '{model}'.")
        silent.may_pass = True
        return silent
    if Reason.UNPRICED in kinds:
        free = sorted(name for name, why in reasons.items() if why == Reason.UNPRICED)
        return model_unpriced(free[0], dollar_limit)
    if Reason.CONTEXT in kinds:
        contexts = [models[m].card.context_tokens for m, why in reasons.items() if why == Reason.CONTEXT]
        return context_too_long(max(contexts), call.prompt_field)
    if Reason.BUDGET in kinds:
        return overloaded("The key's daily budget is spent.", "budget_exceeded", 3600.0)
    if Reason.CAPABILITY in kinds:
        unable = [models[m].card.capabilities for m, why in reasons.items() if why == Reason.CAPABILITY]
        return missing_capability(sorted(set().union(*(needs - has for has in unable))), model)
    if kinds == {Reason.NOT_ALLOWED}:
        return model_not_allowed(model)
    listed = ", ".join(f"'{name}': {why}" for name, why in sorted(reasons.items())) or "all have weight 0"
    return bad_request(f"No model fits this request ({listed}).", "model", "no_model_fits")
