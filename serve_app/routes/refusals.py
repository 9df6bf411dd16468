"""Why nothing in the pool may take a request, as the caller is told it."""

from collections.abc import Collection, Mapping

from deployments.dispatch.masks import NoModelError, Reason
from serve_app.http.errors import (
    ApiError,
    bad_request,
    context_too_long,
    model_not_allowed,
    overloaded,
    unavailable,
)

_NOT_MEANT = frozenset({Reason.NOT_NAMED, Reason.WEIGHT})


def refusal(error: NoModelError, model: str, context_tokens: Mapping[str, int]) -> ApiError:
    """The answer to a request that masks out every model.

    What may pass by waiting (load, health) comes before what will not (context, capability, permission).
    """
    reasons = {name: why for name, why in error.reasons.items() if why not in _NOT_MEANT}
    kinds: Collection[str] = set(reasons.values())
    if not error.reasons:
        return unavailable("The pool has no model yet.", "no_models")
    if Reason.OVER_LIMIT in kinds:
        return overloaded(f"No capacity is left for '{model}'.", "overloaded")
    if Reason.UNHEALTHY in kinds:
        return unavailable(f"No healthy replica can answer for '{model}'.")
    if Reason.CONTEXT in kinds:
        fitting = [context_tokens[name] for name, why in reasons.items() if why == Reason.CONTEXT]
        return context_too_long(max(fitting))
    if Reason.BUDGET in kinds:
        return overloaded("The key's daily budget is spent.", "budget_exceeded", 3600.0)
    if kinds == {Reason.NOT_ALLOWED}:
        return model_not_allowed(model)
    listed = ", ".join(f"'{name}': {why}" for name, why in sorted(reasons.items())) or "all have weight 0"
    return bad_request(f"No model fits this request ({listed}).", "model", "no_model_fits")
