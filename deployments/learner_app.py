"""Builds the Learner for Serve: beside the Ingress in its app."""

import os
from typing import Any, Final, cast

from pydantic import Field
from ray import serve
from ray.serve import Application

from deployments.learner import Learner
from deployments.strict import StrictModel

_PASSED_ON: Final = ("FASTSERVE_HOME", "FASTSERVE_STORE")


class LearnerArgs(StrictModel):
    """What a change of restarts the learner; all else is its `user_config` (LearnerSettings)."""

    num_cpus: float = Field(default=0.1, ge=0)


def build(args: LearnerArgs) -> Application:
    """The deployment `Learner`, always one replica: two would promote against each other."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    learner: Any = serve.deployment(
        Learner,
        name="Learner",
        num_replicas=1,
        health_check_period_s=5.0,
        logging_config={"enable_access_log": False},
        ray_actor_options={"num_cpus": args.num_cpus, "runtime_env": {"env_vars": environment}},
    )
    return cast(Application, learner.bind())
