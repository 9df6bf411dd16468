import numpy as np
import pytest

from policies.simulator.arrivals import synthetic_trace
from policies.simulator.fit import Columns, Served, columns, errors, first_guess, fit_model, simulate
from policies.simulator.spec import ModelSpec

TRUE = ModelSpec(
    "a", prefill_tokens_per_s=4000.0, step_base_s=0.015, step_per_sequence_s=0.001, overhead_s=0.02, slots=8
)


def _served(seed: int, rate: float) -> list[Served]:
    """Requests as the true model serves them."""
    trace = synthetic_trace(200, seed).at_rate(rate)
    data = Columns(trace.arrival_s, trace.prompt_tokens, trace.output_tokens, np.ones(200), np.ones(200))
    ttft, e2e = simulate(TRUE, data)
    return [
        Served("a", float(t), int(p), int(o), float(first), float(last))
        for t, p, o, first, last in zip(
            trace.arrival_s, trace.prompt_tokens, trace.output_tokens, ttft, e2e, strict=True
        )
    ]


def _errors(spec: ModelSpec, served: list[Served]) -> dict[str, float]:
    data = columns(served, "a")
    return errors(simulate(spec, data), (data.ttft_s, data.e2e_s))


def test_the_true_parameters_are_found_and_hold_on_another_load() -> None:
    fitted = fit_model(ModelSpec("a", slots=8), _served(0, rate=1.0))
    assert fitted.step_base_s == pytest.approx(TRUE.step_base_s, rel=0.15)
    assert fitted.prefill_tokens_per_s == pytest.approx(TRUE.prefill_tokens_per_s, rel=0.2)
    found = _errors(fitted, _served(1, rate=1.8))
    assert set(found) == {"ttft_p50", "ttft_p95", "e2e_p50", "e2e_p95"}
    assert max(abs(error) for error in found.values()) < 0.1


def test_a_wrong_model_shows_its_error() -> None:
    slow, quick = (ModelSpec("a", step_base_s=step_s, slots=8) for step_s in (0.06, 0.004))
    assert _errors(slow, _served(0, rate=1.0))["e2e_p50"] > 0.5
    assert _errors(quick, _served(0, rate=1.0))["e2e_p50"] < -0.3


def test_too_few_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="'b' has 0 recorded requests, needs at least 20"):
        columns(_served(0, rate=1.0), "b")


def test_answers_of_one_token_leave_the_step_time_as_it_was() -> None:
    spec = ModelSpec("a", slots=8)
    served = [Served("a", float(i), 10, 1, 0.05 + 0.001 * (i % 7), 0.06) for i in range(40)]
    guess = first_guess(spec, columns(served, "a"))
    assert (guess.step_base_s, guess.prefill_tokens_per_s) == (spec.step_base_s, spec.prefill_tokens_per_s)
    assert abs(_errors(fit_model(spec, served), served)["ttft_p50"]) < 0.2
