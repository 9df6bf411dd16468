"""From a call to a dispatch: the request as dispatch reads it, and refusals in HTTP's terms."""

import secrets

from deployments.dispatch.dispatch import Dispatch
from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.masks import NoModelError
from deployments.dispatch.request import DispatchRequest, Preferences, UnknownModelError
from policies.profile import UnknownProfileError, is_auto
from serve_app.access.keys import Key
from serve_app.body.calls import Call
from serve_app.http.errors import (
    ApiError,
    bad_request,
    model_not_allowed,
    model_not_found,
    profile_not_found,
)
from serve_app.routes.refusals import refusal


class Chooser:
    """Chooses the model of a call; every refusal is an ApiError."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def dispatch(self, key: Key, call: Call, preferences: Preferences) -> Dispatch:
        """Choose a model. Raises ApiError."""
        request = self._request(key, call, preferences)
        try:
            return self._dispatcher.dispatch(request)
        except (UnknownModelError, UnknownProfileError) as error:
            raise _not_found(error) from None
        except NoModelError as error:
            raise refusal(error, call, self._dispatcher.view.snapshot.models) from None

    def explain(self, key: Key, call: Call, preferences: Preferences) -> Dispatch:
        """The same with nothing drawn, counted or refused for lack of a model. Raises ApiError."""
        try:
            return self._dispatcher.explain(self._request(key, call, preferences))
        except (UnknownModelError, UnknownProfileError) as error:
            raise _not_found(error) from None

    def _request(self, key: Key, call: Call, preferences: Preferences) -> DispatchRequest:
        """The request as dispatch reads it. Raises ApiError for models the caller may not or cannot mean."""
        for model in preferences.models or ():
            if model not in self._dispatcher.view.snapshot.models:
                raise bad_request(
                    f"Model '{model[:64]}' is not served.", "fastserve.models", "model_not_found"
                )
        request = DispatchRequest(
            decision_id=f"d-{secrets.token_hex(16)}",
            requested=call.model,
            prompt=call.prompt,
            preferences=preferences,
            key_id=key.key_id,
            key_models=key.limits.models,
        )
        if not is_auto(call.model) and not request.allows(call.model):
            raise model_not_allowed(call.model)
        return request


def _not_found(error: UnknownModelError | UnknownProfileError) -> ApiError:
    if isinstance(error, UnknownProfileError):
        return profile_not_found(error.name, error.known)
    return model_not_found(error.model, error.served)
