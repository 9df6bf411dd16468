"""What the apps hand to Ray: nothing of the environment that they are built in, and no secret."""

import pytest

from deployments.model.config import ModelConfig, deployment_options
from serve_app.app import CompanionArgs, evaluator, ingress_options, learner
from serve_app.config import IngressConfig

CANARY = "canary-0123456789abcdef"
NAMES = (
    "FASTSERVE_API_KEY",
    "FASTSERVE_STORE",
    "FASTSERVE_STORE_KEY_FILE",
    "FASTSERVE_HOME",
    "RAY_AUTH_TOKEN",
)


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, f"postgresql://user:{CANARY}@db/{name}")


def test_no_secret_is_in_what_ray_shows_of_an_app() -> None:
    model = ModelConfig.model_validate({"id": "m", "engine": "simulated"})
    shown = [ingress_options(IngressConfig()), deployment_options(model)]
    for build in (evaluator, learner):
        shown.append(build(CompanionArgs())._bound_deployment.ray_actor_options)
    assert CANARY not in repr(shown)


@pytest.mark.parametrize("name", ["HF_TOKEN", "OPENAI_API_KEY", "DB_PASSWORD", "CLIENT_SECRET"])
def test_a_secret_in_a_models_environment_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' in 'env' would be visible"):
        ModelConfig.model_validate({"id": "m", "engine": "simulated", "env": {name: "x"}})


def test_a_file_that_holds_a_secret_may_be_named() -> None:
    ModelConfig.model_validate({"id": "m", "engine": "simulated", "env": {"HF_TOKEN_PATH": "/etc/hf-token"}})
