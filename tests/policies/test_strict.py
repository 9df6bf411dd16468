import pytest
from pydantic import Field, ValidationError

from policies.strict import StrictModel


class Inner(StrictModel):
    port: int = 1


class Outer(StrictModel):
    model: str
    inner: Inner = Inner()
    share: float = Field(default=0.5, alias="portion")


def test_an_unknown_key_names_the_nearest_right_one() -> None:
    with pytest.raises(ValidationError, match=r"Unknown key 'modle' in Outer; did you mean 'model'\?"):
        Outer.model_validate({"modle": "a"})


def test_a_key_like_no_other_lists_the_known_ones() -> None:
    with pytest.raises(
        ValidationError, match=r"Unknown key 'zzz' in Outer; known: inner, model, portion, share\."
    ):
        Outer.model_validate({"model": "a", "zzz": 1})


def test_nested_models_are_strict_too() -> None:
    with pytest.raises(ValidationError, match=r"Unknown key 'prot' in Inner; did you mean 'port'\?"):
        Outer.model_validate({"model": "a", "inner": {"prot": 2}})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(ValidationError):
        Outer.model_validate({"model": "a", "portion": value})


def test_an_alias_is_known() -> None:
    assert Outer.model_validate({"model": "a", "portion": 0.25}).share == 0.25


def test_replace_validates_the_change() -> None:
    assert Outer(model="a").replace(model="b").model == "b"
    with pytest.raises(ValidationError):
        Outer(model="a").replace(model=3)
