"""Jobs for the tests of what carries a request to the pool and back."""

from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.request import DispatchRequest, Prompt
from deployments.dispatch.settings import DispatchSettings
from deployments.keys.entries import KeyLimits
from deployments.keys.key import Key
from serve_app.body.calls import Call
from serve_app.upstream.job import Job
from tests.deployments.pools import View, model, snapshot

KEY = Key("k", "web", frozenset(), KeyLimits(), "salt")


def made_job(path: str = "/v1/chat/completions", *, stream: bool = True) -> Job:
    """A request "d-1" to the named model "m", dispatched and not sent yet."""
    prompt = Prompt("Hello")
    dispatcher = Dispatcher(View(snapshot(model("m"))), DispatchSettings())
    dispatch = dispatcher.dispatch(DispatchRequest("d-1", "m", prompt))
    return Job(Call(path, {}, "m", prompt, stream=stream), b"", dispatch, 0.0, 1e9, KEY, [(b"x-a", b"b")])
