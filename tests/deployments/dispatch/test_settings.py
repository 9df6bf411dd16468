"""Dispatch settings: limits hold, wrong keys are named."""

import pytest
from pydantic import ValidationError

from deployments.dispatch.settings import DispatchSettings
from policies.utility import Weights


def test_the_defaults_are_valid_and_have_a_plain_profile() -> None:
    settings = DispatchSettings()
    plain = settings.profile("")
    assert plain is not None
    assert plain.weights == Weights(1.0, 1.0, 0.0)
    assert settings.profile("support") is None


def test_a_profile_without_weights_has_the_default_ones() -> None:
    settings = DispatchSettings.model_validate(
        {"weights": {"accuracy": 3.0}, "profiles": {"support": {"target_s": 2.0}, "": {"sticky": True}}}
    )
    support, plain = settings.profile("support"), settings.profile("")
    assert support is not None
    assert plain is not None
    assert (support.weights.accuracy, support.target_s, support.name) == (3.0, 2.0, "support")
    assert plain.sticky


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"epsilon": 0.06}, "0.05"),
        ({"epsilon": -0.01}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"beta": 0.0}, "beta"),
        ({"weights": {"accuracy": 0.0, "latency": 0.0}}, "at least one"),
        ({"weights": {"acuracy": 1.0}}, "did you mean 'accuracy'"),
        ({"profiles": {"a": {"quality_floor": 1.5}}}, "quality_floor"),
        ({"profiles": {"a": {"allowed": []}}}, "allowed"),
        ({"exploration": {"key_share": 0.2}}, "key_share"),
        ({"guards": {}}, "did you mean 'guard'"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        DispatchSettings.model_validate(given)
