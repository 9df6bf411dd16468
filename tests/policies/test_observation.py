"""The observation: fields, units and columns."""

import numpy as np
import pytest

from policies import observation as column
from policies.observation import (
    CALLER_COLUMN,
    CALLER_FIELDS,
    MODEL_COLUMN,
    MODEL_FIELDS,
    PROMPT_COLUMN,
    PROMPT_FIELDS,
    Observation,
)


def observation() -> Observation:
    rows = np.arange(2 * len(MODEL_FIELDS), dtype=float).reshape(2, -1)
    return Observation(
        models=("a", "b"),
        rows=rows,
        prompt=np.arange(len(PROMPT_FIELDS), dtype=float),
        caller=np.arange(len(CALLER_FIELDS), dtype=float),
        mask=np.array([True, False]),
    )


def test_every_field_has_a_unit_a_range_and_a_meaning() -> None:
    for field in (*MODEL_FIELDS, *PROMPT_FIELDS, *CALLER_FIELDS):
        assert field.unit
        assert field.meaning
        assert field.low < field.high


def test_field_names_are_distinct() -> None:
    for fields in (MODEL_FIELDS, PROMPT_FIELDS, CALLER_FIELDS):
        names = [field.name for field in fields]
        assert len(set(names)) == len(names)


def test_columns_are_read_by_name() -> None:
    seen = observation()
    assert seen.column("accuracy").tolist() == seen.rows[:, MODEL_COLUMN["accuracy"]].tolist()
    assert seen.prompt_field("output_tokens") == 1.0


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(KeyError):
        observation().column("acuracy")


def test_constants_of_compiled_code_are_named_as_the_columns_that_they_are() -> None:
    columns = {**MODEL_COLUMN, **PROMPT_COLUMN, **CALLER_COLUMN}
    constants = {name: getattr(column, name.upper(), None) for name in columns}
    assert {name for name, value in constants.items() if value is not None} >= set(MODEL_COLUMN)
    for name, value in constants.items():
        assert value in (None, columns[name])
