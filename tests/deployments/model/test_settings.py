"""Live settings of a model: what is refused, and what a change of them does to a running replica."""

from typing import Any

import pytest
from pydantic import ValidationError

from deployments.model.settings import ModelSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight": -1}, "greater than or equal to 0"),
        ({"accuracy_prior": 1.5}, "less than or equal to 1"),
        ({"capabilities": ["chat", "toolz"]}, "Input should be"),
        ({"aliases": ["auto:x"]}, "'auto:x' is reserved"),
        ({"aliases": ["a", "b", "a"]}, "'aliases' names 'a' twice"),
        ({"fallback": ["a", "a"]}, "'fallback' names 'a' twice"),
        ({"prize": {}}, "did you mean 'price'"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelSettings.model_validate(values)
