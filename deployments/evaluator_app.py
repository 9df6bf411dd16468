"""Builds the Evaluator for Serve: beside the Ingress in its app, or as an app of its own."""

import os
from typing import Any, Final, cast

from pydantic import Field
from ray import serve
from ray.serve import Application

from deployments.evaluator import Evaluator
from deployments.strict import StrictModel

_PASSED_ON: Final = ("FASTSERVE_HOME", "FASTSERVE_STORE", "FASTSERVE_API_KEY")


class EvaluatorArgs(StrictModel):
    """`args` of the evaluator's own app; all else is the deployment's `user_config` (EvaluatorSettings)."""

    num_cpus: float = Field(default=0.1, ge=0)


def build(args: EvaluatorArgs) -> Application:
    """The deployment `Evaluator`, always one replica: two would ask everything twice."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    evaluator: Any = serve.deployment(
        Evaluator,
        name="Evaluator",
        num_replicas=1,
        health_check_period_s=5.0,
        logging_config={"enable_access_log": False},
        ray_actor_options={"num_cpus": args.num_cpus, "runtime_env": {"env_vars": environment}},
    )
    return cast(Application, evaluator.bind())
