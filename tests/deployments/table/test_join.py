"""Outcome and engine record of one request meet, whichever comes first."""

from deployments.records.records import EngineRecord, OutcomeRecord
from deployments.records.snapshot import ModelCard
from deployments.table.join import KEPT, KEPT_S, EngineJoin
from policies.outcome import Outcome, Status

CARDS = {"m": ModelCard("m", "vllm", "", 4096, prompt_usd_per_mtok=1.0, completion_usd_per_mtok=10.0)}
ENGINE = EngineRecord("d", prompt_tokens=100, output_tokens=20, queue_s=0.25, tpot_s=0.02)


def outcome(**values: int) -> OutcomeRecord:
    return OutcomeRecord("d", 0.0, "m", "r", Outcome(Status.OK, **values))  # type: ignore[arg-type]


def test_a_stream_without_usage_gets_its_tokens_and_cost_from_the_engine() -> None:
    join = EngineJoin(CARDS)
    assert join.engine(ENGINE, 0.0) is None
    joined = join.outcome(outcome(), 0.0).outcome
    assert (joined.prompt_tokens, joined.output_tokens, joined.queue_s) == (100, 20, 0.25)
    assert joined.cost_usd == (100 * 1.0 + 20 * 10.0) / 1e6


def test_the_order_does_not_matter() -> None:
    first, last = EngineJoin(CARDS), EngineJoin(CARDS)
    first.engine(ENGINE, 0.0)
    record = last.outcome(outcome(), 0.0)
    last.counted(record, 0.0)
    change = last.engine(ENGINE, 0.0)
    assert change == (outcome(), first.outcome(outcome(), 0.0))


def test_what_the_ingress_counted_stays() -> None:
    join = EngineJoin(CARDS)
    join.engine(ENGINE, 0.0)
    joined = join.outcome(outcome(prompt_tokens=7, output_tokens=3), 0.0).outcome
    assert (joined.prompt_tokens, joined.output_tokens, joined.cost_usd, joined.queue_s) == (7, 3, 0.0, 0.25)


def test_what_never_meets_is_forgotten() -> None:
    join = EngineJoin(CARDS)
    join.engine(ENGINE, 0.0)
    join.engine(EngineRecord("later"), KEPT_S + 1)
    assert join.outcome(outcome(), KEPT_S + 1) == outcome()
    for i in range(KEPT + 5):
        join.engine(EngineRecord(str(i)), 0.0)
    assert len(join._engines._values) == KEPT


def test_the_engine_whose_try_was_outrun_says_nothing_of_the_answer() -> None:
    outrun = EngineRecord("d", prompt_tokens=100, queue_s=9.0, finish_reason="abort")
    for order in ((outrun, ENGINE), (ENGINE, outrun)):
        join = EngineJoin(CARDS)
        for engine in order:
            join.engine(engine, 0.0)
        assert join.outcome(outcome(), 0.0).outcome.queue_s == 0.25
        join = EngineJoin(CARDS)
        join.counted(join.outcome(outcome(), 0.0), 0.0)
        changes = [join.engine(engine, 0.0) for engine in order]
        assert [after.outcome.queue_s for _, after in filter(None, changes)] == [0.25]


def test_a_request_that_was_aborted_gets_what_its_engine_says() -> None:
    join = EngineJoin(CARDS)
    join.engine(EngineRecord("d", prompt_tokens=100, queue_s=9.0, finish_reason="abort"), 0.0)
    left = OutcomeRecord("d", 0.0, "m", "r", Outcome(Status.CANCELLED))
    assert join.outcome(left, 0.0).outcome.queue_s == 9.0
