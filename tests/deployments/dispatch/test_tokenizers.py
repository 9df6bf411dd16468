"""Prompts are counted by the models' own tokenizers, where bounds do not say whether they fit."""

from dataclasses import replace

import pytest

from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.masks import Reason
from deployments.dispatch.request import Prompt
from deployments.dispatch.settings import DispatchSettings
from deployments.dispatch.tokenizers import Tokenizers
from deployments.records.snapshot import ModelRow, Snapshot, tokenizer_artifact
from tests.deployments.dispatch.asking import ask
from tests.deployments.dispatch.byte_tokenizer import of_bytes
from tests.deployments.pools import View, model, snapshot


def with_tokenizer(row: ModelRow, tokenizer: str = "t") -> ModelRow:
    return replace(row, card=replace(row.card, tokenizer=tokenizer))


def pool(context_tokens: int = 64) -> Snapshot:
    """A model with a tokenizer, and one without that takes everything."""
    rows = (with_tokenizer(model("counted", context_tokens=context_tokens)), model("other"))
    return snapshot(*rows, artifacts={tokenizer_artifact("t"): "t"})


def loaded() -> Tokenizers:
    made = Tokenizers()
    assert made.install("t", of_bytes())
    return made


@pytest.mark.parametrize(("size", "fits"), [(64, True), (65, True), (66, False), (300, False)])
async def test_a_count_says_what_no_bound_can(size: int, fits: bool) -> None:
    prompt = await loaded().counted(pool(), "auto", Prompt("ab" * (size // 2) + "c" * (size % 2)))
    assert prompt.counts == {"t": size - 2}  # at both ends a token may join the chat template's
    request = replace(ask(), prompt=prompt)
    reasons = Dispatcher(View(pool()), DispatchSettings()).explain(request).reasons
    assert reasons == ({} if fits else {"counted": Reason.CONTEXT.value})


@pytest.mark.parametrize(
    "prompt",
    [Prompt("x" * 63), Prompt("word " * 1_000), Prompt(tokens=500), Prompt("x" * 10, max_tokens=10_000)],
)
def test_nothing_is_counted_where_the_bounds_decide(prompt: Prompt) -> None:
    assert loaded().undecided(pool(), "auto", prompt) == set()


async def test_a_long_text_is_counted_in_pieces_and_no_further_than_matters() -> None:
    text = "word " * 60_000
    roomy = await loaded().counted(pool(299_000), "auto", Prompt(text))
    assert len(text) - 20 < roomy.counts["t"] <= len(text) - 2
    small = await loaded().counted(pool(10_000), "counted", Prompt("x" * 150_000))
    assert 10_000 < small.counts["t"] < 70_000
    unbroken = await loaded().counted(pool(390_000), "counted", Prompt("x" * 399_999))
    assert 390_000 < unbroken.counts["t"] <= 399_997


def test_only_the_named_model_counts() -> None:
    assert loaded().undecided(pool(), "other", Prompt("x" * 100)) == set()
    assert loaded().undecided(pool(), "counted", Prompt("x" * 100)) == {"t"}


async def test_text_that_is_no_utf_8_is_counted_too() -> None:
    prompt = await loaded().counted(pool(), "auto", Prompt("\ud800" * 100))
    assert prompt.counts == {"t": 98}


async def test_a_tokenizer_is_fetched_once_and_only_where_the_table_has_it() -> None:
    fetched = []

    async def fetch(name: str) -> tuple[str, bytes]:
        fetched.append(name)
        return "t", of_bytes()

    made = Tokenizers()
    await made.refresh(snapshot(with_tokenizer(model("a"), "gone")), fetch)
    for _ in range(2):
        await made.refresh(pool(), fetch)
    assert fetched == ["tokenizer:t"]


async def test_the_tokenizer_of_a_model_that_left_is_forgotten() -> None:
    async def fetch(name: str) -> tuple[str, bytes]:
        raise AssertionError(name)

    made = loaded()
    await made.refresh(snapshot(model("other")), fetch)
    assert made.wanted(pool()) == ["t"]  # fetched again when it comes back


async def test_a_file_that_cannot_be_read_leaves_the_bounds() -> None:
    made = Tokenizers()
    assert not made.install("t", b"no tokenizer")
    assert made.wanted(pool()) == []
    assert (await made.counted(pool(), "auto", Prompt("x" * 100))).counts is None
