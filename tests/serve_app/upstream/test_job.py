"""What a request tells the waiting room of itself."""

import math

import pytest

from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.request import DispatchRequest, Prompt
from deployments.dispatch.settings import DispatchSettings
from policies.latency.model import LENGTH_INPUTS, LatencyModel, LatencyParameters
from serve_app.body.calls import Call
from serve_app.upstream.job import Job
from tests.deployments.pools import View, model, snapshot
from tests.serve_app.jobs import KEY

TPOT_S = 0.02


def writes(tokens: float) -> LatencyParameters:
    """A model that was measured, alone in its batch whatever runs, and always writes so much."""
    length = (math.log1p(tokens), *(0.0,) * (LENGTH_INPUTS - 1))
    return LatencyParameters(tpot_s=TPOT_S, batch_slope=0.0, length=length, count=100)


def job(prompt: Prompt) -> Job:
    models = (model("brief", tpot_s=TPOT_S), model("wordy", tpot_s=TPOT_S))
    dispatcher = Dispatcher(View(snapshot(*models)), DispatchSettings())
    dispatcher.host.latency = LatencyModel({"brief": writes(10), "wordy": writes(100)})
    dispatch = dispatcher.dispatch(DispatchRequest("d-1", "auto", prompt))
    return Job(Call("/v1/chat/completions", {}, "auto", prompt), b"", dispatch, 0.0, 60.0, KEY, [])


def cost_s(one: Job, name: str) -> float:
    return one.visit(name).cost_s


def test_its_work_is_what_is_predicted_of_that_model():
    one = job(Prompt("Hello"))
    assert cost_s(one, "wordy") - cost_s(one, "brief") == pytest.approx(TPOT_S * 90, rel=1e-3)
    assert cost_s(one, "brief") > TPOT_S * 9  # the prompt is read first


def test_its_work_ends_with_the_limit_that_it_sets():
    one = job(Prompt("Hello", max_tokens=5))
    assert cost_s(one, "wordy") == pytest.approx(cost_s(one, "brief"))


def test_of_a_model_that_nobody_knows_it_has_hardly_any():
    assert 0.0 < cost_s(job(Prompt("Hello")), "gone") < 0.01


def test_it_may_wait_until_its_deadline():
    assert job(Prompt("Hello")).visit("brief").deadline_s == 60.0
