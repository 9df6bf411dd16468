"""What a Serve config names: `build` makes the endpoint's app, `build_model` the app of one LLM."""

import os
from typing import Any, cast

from ray import serve
from ray.serve import Application

from deployments.model.config import ModelConfig, deployment_options
from deployments.model.model import Model
from serve_app.config import IngressConfig
from serve_app.http import guard

# One event loop for Serve's HTTP server and our code: half the hops for a chunk, and a client that does
# not read its stream is felt, because nothing queues in between.
_LOOP_ENV = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
}
_PASSED_ON = ("FASTSERVE_HOME", "FASTSERVE_STORE", "FASTSERVE_API_KEY", "RAY_worker_niceness")


def build(args: IngressConfig) -> Application:
    """The app `fastserve`: Ingress, and where the args say so Evaluator and Learner."""
    from serve_app.ingress import Ingress  # compiled code comes with it, and a model's app needs none

    ingress: Any = serve.deployment(serve.ingress()(Ingress), **ingress_options(args))
    return cast(Application, ingress.bind(args, companions=_companions(args)))


def _companions(args: IngressConfig) -> list[Application]:
    if not (args.evaluator or args.learner):
        return []
    from deployments import companions  # heavy, and a model's app is built without it

    wanted = {companions.evaluator: args.evaluator, companions.learner: args.learner}
    return [make(companions.CompanionArgs()) for make, is_on in wanted.items() if is_on]


def build_model(args: ModelConfig) -> Application:
    """The app `model-<id>`."""
    model: Any = serve.deployment(Model, **deployment_options(args))
    return cast(Application, model.bind(args))


def ingress_options(args: IngressConfig) -> dict[str, Any]:
    """Options for `serve.deployment(Ingress, **options)`.

    Serve's own limits stand above ours, so that every refusal for load is made by us and OpenAI-shaped.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= _LOOP_ENV | guard.environment(args.body_bytes, args.body_s)
    return {
        "name": "Ingress",
        "max_ongoing_requests": 2 * args.max_in_flight,
        "health_check_period_s": 2.0,
        "health_check_timeout_s": 10.0,
        "graceful_shutdown_timeout_s": args.drain_s,
        "graceful_shutdown_wait_loop_s": 0.5,
        "max_surge_percent": 100.0,
        "logging_config": {"enable_access_log": False},
        "ray_actor_options": {"num_cpus": args.num_cpus, "runtime_env": {"env_vars": environment}},
    }
