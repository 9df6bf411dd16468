"""Aliases, and chains of models that answer for each other."""

from dataclasses import replace

from deployments.dispatch.names import aliases, chain
from tests.deployments.pools import model


def named(name, **card):
    row = model(name)
    return replace(row, card=replace(row.card, **card))


def test_an_id_wins_over_an_alias_and_the_alphabet_between_two():
    pool = {
        "a": named("a", aliases=("x", "b")),
        "b": named("b", aliases=("x", "y")),
    }
    assert aliases(pool) == {"x": "a", "y": "b"}


def test_a_chain_is_walked_breadth_first_without_circles_or_models_that_left():
    pool = {
        "a": named("a", fallback=("b", "c", "gone")),
        "b": named("b", fallback=("d", "a")),
        "c": named("c"),
        "d": named("d", fallback=("b",)),
    }
    assert chain(pool, "a") == ("a", "b", "c", "d")
    assert chain(pool, "c") == ("c",)
