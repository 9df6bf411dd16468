"""Predicted latency: sensible before data, monotone in the queue, fitted from outcomes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.arrays import F32, F64
from policies.latency.fit import LatencySample, fit_latency
from policies.latency.model import LatencyModel, LatencyParameters, LiveLoad
from policies.observation import PROMPT_COLUMN, PROMPT_FIELDS
from policies.prompt.style import style

NAN = float("nan")


def live(m: int = 1, **columns: list[float]) -> LiveLoad:
    """M models named a, b ... with 8 slots on one replica and nothing measured."""
    defaults = {"slots": 8.0, "replicas": 1.0, "running": 0.0, "waiting": 0.0, "cold": 0.0, "count": 0.0}
    names = (*defaults, "ttft_s", "queue_s", "tpot_s", "output_tokens")
    arrays = {name: np.array(columns.get(name, [defaults.get(name, NAN)] * m), dtype=float) for name in names}
    return LiveLoad(models=tuple("abcdefgh"[:m]), **arrays)


def prompt(tokens: float = 100.0, text: str = "", **fields: float) -> tuple[F64, F32]:
    """Prompt fields and the style of a text."""
    values = np.zeros(len(PROMPT_FIELDS))
    for name, value in {"prompt_tokens": tokens, "turns": 1.0, **fields}.items():
        values[PROMPT_COLUMN[name]] = value
    return values, style(text)


def test_a_model_that_nobody_measured_has_finite_positive_predictions() -> None:
    seen = LatencyModel().bind(live()).predict(*prompt(), np.zeros(1), None)
    for values in (seen.ttft_s, seen.e2e_s, seen.output_tokens):
        assert np.isfinite(values).all()
        assert (values > 0.0).all()
    assert seen.e2e_s >= seen.ttft_s


def test_live_measurements_replace_the_prior() -> None:
    bound = LatencyModel().bind(
        live(tpot_s=[0.2], ttft_s=[1.5], queue_s=[0.5], output_tokens=[11.0], count=[50])
    )
    seen = bound.predict(*prompt(), np.zeros(1), None)
    assert np.isclose(seen.ttft_s[0], 1.0, rtol=1e-6)
    assert np.isclose(seen.output_tokens[0], 11.0)
    assert np.isclose(seen.e2e_s[0], 1.0 + 10 * 0.2, rtol=1e-6)


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 300), min_size=2, max_size=2).map(sorted),
    st.integers(1, 64),
    st.integers(1, 4),
    st.floats(0.001, 1.0),
    st.floats(0.0, 1.0),
)
def test_latency_never_falls_when_the_queue_grows(
    queue: list[int], slots: int, replicas: int, tpot_s: float, slope: float
) -> None:
    model = LatencyModel({"a": LatencyParameters(tpot_s=tpot_s, batch_slope=slope, count=100)})
    bound = model.bind(live(slots=[float(slots)], replicas=[float(replicas)]))
    short, long = (bound.predict(*prompt(), np.array([float(n)]), 50) for n in queue)
    assert long.ttft_s >= short.ttft_s - 1e-9
    assert long.e2e_s >= short.e2e_s - 1e-9


def test_a_request_beyond_the_slots_waits_its_share_of_the_service_time() -> None:
    bound = LatencyModel().bind(
        live(slots=[4.0], tpot_s=[0.1], ttft_s=[0.1], output_tokens=[21.0], count=[99])
    )
    ahead = [float(bound.predict(*prompt(), np.array([n]), None).ttft_s[0]) for n in (3.0, 4.0, 5.0)]
    assert ahead[1] > ahead[0]
    assert np.isclose(ahead[2] - ahead[1], ahead[1] - ahead[0])
    assert np.isclose(ahead[1] - ahead[0], 1.0 / bound.capacity_per_s[0])


def test_max_tokens_caps_the_answer() -> None:
    bound = LatencyModel().bind(live())
    assert bound.predict(*prompt(), np.zeros(1), 5).output_tokens[0] == 5.0
    assert bound.predict(*prompt(), np.zeros(1), 5).e2e_s < bound.predict(*prompt(), np.zeros(1), None).e2e_s


def test_a_cold_model_counts_its_start() -> None:
    warm, cold = (LatencyModel().bind(live(cold=[c])).predict(*prompt(), np.zeros(1), 8) for c in (0.0, 1.0))
    assert np.isclose(cold.ttft_s - warm.ttft_s, LatencyParameters().cold_s)


def test_a_model_without_a_replica_has_no_capacity() -> None:
    assert LatencyModel().bind(live(replicas=[0.0], slots=[0.0])).capacity_per_s[0] == 0.0


def samples(count: int, seed: int = 0, slow: float = 1.0) -> list[LatencySample]:
    """Outcomes of a model with base 50 ms, 0.2 ms a prompt token, TPOT 20 ms + 10 % a sequence more.

    It answers code with 200 tokens, text with 40, lists with three times as many."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        tokens, ahead = float(random.integers(10, 2000)), float(random.integers(0, 8))
        code = float(random.random() < 0.5)
        listed = bool(random.random() < 0.5)
        fields, how = prompt(tokens, "- a\n- b" if listed else "a b", code_hint=code)
        output = (200 if code else 40) * (3 if listed else 1)
        made.append(
            LatencySample(
                model="a",
                prompt=tuple(fields),
                style=how,
                in_flight=ahead,
                slots=8.0,
                replicas=1.0,
                output_tokens=output,
                ttft_s=slow * (0.05 + 0.0002 * tokens) * random.normal(1.0, 0.05),
                tpot_s=slow * 0.02 * (1.0 + 0.1 * ahead) * random.normal(1.0, 0.05),
            )
        )
    return made


def test_the_fit_finds_the_parameters_behind_the_outcomes() -> None:
    fitted = fit_latency(samples(400)).parameters["a"]
    assert np.isclose(fitted.base_s, 0.05, rtol=0.15)
    assert np.isclose(fitted.prefill_s, 0.0002, rtol=0.1)
    assert np.isclose(fitted.tpot_s, 0.02, rtol=0.1)
    assert np.isclose(fitted.batch_slope, 0.1, rtol=0.2)
    assert fitted.count == 400


@pytest.mark.parametrize(
    ("code", "text", "tokens"),
    [(1.0, "a b", 200), (0.0, "a b", 40), (1.0, "- a\n- b", 600), (0.0, "- a\n- b", 120)],
)
def test_the_fitted_answer_length_follows_the_prompt_and_its_style(
    code: float, text: str, tokens: int
) -> None:
    bound = fit_latency(samples(400)).bind(live())
    seen = bound.predict(*prompt(500.0, text, code_hint=code), np.zeros(1), None)
    assert np.isclose(seen.output_tokens[0], tokens, rtol=0.15)


def test_few_outcomes_change_nothing() -> None:
    start = LatencyModel({"a": LatencyParameters(base_s=0.7, count=99)})
    assert fit_latency(samples(29), start).parameters == start.parameters


def test_a_model_that_slows_down_is_noticed_before_the_next_fit() -> None:
    model = fit_latency(samples(400))
    usual = model.bind(live(tpot_s=[0.02], count=[100])).predict(*prompt(), np.zeros(1), 100).e2e_s[0]
    slowed = model.bind(live(tpot_s=[0.10], count=[100])).predict(*prompt(), np.zeros(1), 100).e2e_s[0]
    assert slowed > 3.5 * usual


def test_it_survives_bytes() -> None:
    model = fit_latency(samples(60), revision="r7")
    again = LatencyModel.from_bytes(model.to_bytes())
    assert again.parameters == model.parameters
    assert again.revision == "r7"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"version": 2', '"version": 9', "version 9"),
        ('"base_s": 0.7', '"base_s": NaN', "base_s"),
        ('"base_s": 0.7', '"base_s": -1', "base_s"),
        ('"base_s": 0.7', '"base": 0.7', "base"),
        ('"length": [', '"length": [1.0, ', "length"),
    ],
)
def test_unusable_bytes_are_refused(old: str, new: str, complaint: str) -> None:
    data = LatencyModel({"a": LatencyParameters(base_s=0.7)}).to_bytes().decode()
    with pytest.raises(ValueError, match=complaint):
        LatencyModel.from_bytes(data.replace(old, new).encode())
