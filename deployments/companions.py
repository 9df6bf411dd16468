"""Builds what learns, for Serve: Evaluator and Learner, beside the Ingress or as apps of their own."""

import os
from typing import Any, Final, cast

from pydantic import Field
from ray import serve
from ray.serve import Application

from deployments.evaluation.evaluator import Evaluator
from deployments.learning.learner import Learner
from deployments.strict import StrictModel

_PASSED_ON: Final = ("FASTSERVE_HOME", "FASTSERVE_STORE", "FASTSERVE_API_KEY")


class CompanionArgs(StrictModel):
    """`args` of an app of its own; all else is the deployment's `user_config`."""

    num_cpus: float = Field(default=0.1, ge=0)  # CPUs of its replica


def evaluator(args: CompanionArgs) -> Application:
    """The deployment `Evaluator`, always one replica: two would ask everything twice."""
    return _single(Evaluator, args)


def learner(args: CompanionArgs) -> Application:
    """The deployment `Learner`, always one replica: two would promote against each other."""
    return _single(Learner, args)


def _single(kind: type, args: CompanionArgs) -> Application:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    deployment: Any = serve.deployment(
        kind,
        name=kind.__name__,
        num_replicas=1,
        health_check_period_s=5.0,
        logging_config={"enable_access_log": False},
        ray_actor_options={"num_cpus": args.num_cpus, "runtime_env": {"env_vars": environment}},
    )
    return cast(Application, deployment.bind())
