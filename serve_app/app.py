"""What a Serve config names: `build` makes the endpoint's app, `build_model` the app of one LLM.

Processes read FASTSERVE_* from the environment of their own node. Nothing of it goes into a runtime
environment: Ray's API and logs show those, secrets included, and other nodes have other folders.
"""

from typing import Any, cast

from pydantic import Field
from ray import serve
from ray.serve import Application

from deployments.model.config import ModelConfig, deployment_options
from deployments.model.model import Model
from deployments.model.room import has_room
from policies.strict import StrictModel
from serve_app.config import IngressConfig
from serve_app.http import guard

# One event loop for Serve's HTTP server and our code: half the hops for a chunk, and a client that does
# not read its stream is felt, because nothing queues in between.
LOOP_ENV = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
}
# Large pieces of a body go back to the system when they are freed: glibc would keep up to 32 MiB each.
MALLOC_ENV = {"MALLOC_MMAP_THRESHOLD_": "262144"}


def build(args: IngressConfig) -> Application:
    """The app `fastserve`: Ingress, and where the args say so Evaluator and Learner."""
    from serve_app.ingress import Ingress  # compiled code comes with it, and a model's app needs none

    ingress: Any = serve.deployment(serve.ingress()(Ingress), **ingress_options(args))
    return cast(Application, ingress.bind(args, companions=_companions(args)))


def _companions(args: IngressConfig) -> list[Application]:
    if not (args.evaluator or args.learner):
        return []
    wanted = {evaluator: args.evaluator, learner: args.learner}
    return [make(CompanionArgs()) for make, is_on in wanted.items() if is_on]


class CompanionArgs(StrictModel):
    """`args` of an app of its own; all else is the deployment's `user_config`."""

    # Reserve this many CPUs for its replica.
    num_cpus: float = Field(default=0.1, ge=0)


def evaluator(args: CompanionArgs) -> Application:
    """The deployment `Evaluator`, always one replica: two would ask everything twice."""
    from deployments.evaluation.evaluator import Evaluator  # heavy, and a model's app is built without it

    return _single(Evaluator, args)


def learner(args: CompanionArgs) -> Application:
    """The deployment `Learner`, always one replica: two would promote against each other."""
    from deployments.learning.learner import Learner

    return _single(Learner, args)


def _single(kind: type, args: CompanionArgs) -> Application:
    deployment: Any = serve.deployment(
        kind,
        name=kind.__name__,
        num_replicas=1,
        user_config={},  # or settings that leave the file would stay in force
        health_check_period_s=5.0,
        logging_config={"enable_access_log": False},
        ray_actor_options={"num_cpus": args.num_cpus},
    )
    return cast(Application, deployment.bind())


def build_model(args: ModelConfig) -> Application:
    """The app `model-<id>`. Where the devices allow it, a successor starts before its predecessor stops."""
    options = deployment_options(args)
    surge = 100 if has_room(options) else 0
    model: Any = serve.deployment(Model, **options, max_surge_percent=surge)
    return cast(Application, model.bind(args))


def ingress_options(args: IngressConfig) -> dict[str, Any]:
    """Options for `serve.deployment(Ingress, **options)`.

    Serve's own limits stand above ours, so that every refusal for load is made by us and OpenAI-shaped.
    """
    environment = LOOP_ENV | MALLOC_ENV | guard.environment(guard.limits_of(args))
    return {
        "name": "Ingress",
        "user_config": {},  # or settings that leave the file would stay in force
        "max_ongoing_requests": 2 * args.max_in_flight,
        "health_check_period_s": 2.0,
        "health_check_timeout_s": 10.0,
        "graceful_shutdown_timeout_s": args.drain_s,
        "graceful_shutdown_wait_loop_s": 0.5,
        "max_surge_percent": 100.0,
        "logging_config": {"enable_access_log": False},
        "ray_actor_options": {"num_cpus": args.num_cpus, "runtime_env": {"env_vars": environment}},
    }
