"""The shipped config is valid, complete, and has no key that nobody reads."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

from deployments.model.config import ModelConfig
from serve_app.app import build, build_model, ingress_options
from serve_app.config import IngressConfig, IngressSettings
from serve_app.http.guard import HOOK, HOOK_ENV

CONFIG = Path(__file__).resolve().parents[2] / "cluster.yaml"


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load(CONFIG.read_text())


def apps(document, builder):
    return [app for app in document["applications"] if app["import_path"] == f"serve_app.app:{builder}"]


def test_serve_takes_it_and_no_key_is_unknown_to_serve(document):
    ServeDeploySchema.model_validate(document)
    assert set(document) <= set(ServeDeploySchema.model_fields)
    for app in document["applications"]:
        assert set(app) <= set(ServeApplicationSchema.model_fields)
        for deployment in app["deployments"]:
            assert set(deployment) <= set(DeploymentSchema.model_fields)


def test_its_args_and_settings_are_valid(document):
    [endpoint] = apps(document, "build")
    IngressConfig.model_validate(endpoint["args"])
    [ingress] = [entry for entry in endpoint["deployments"] if entry["name"] == "Ingress"]
    settings = IngressSettings.model_validate(ingress["user_config"])
    assert set(settings.dispatch.profiles) == {
        "customer-service",
        "content-creation",
        "document-generation",
        "recommendation",
    }


def test_every_model_is_an_app_of_its_own_name_without_a_route(document):
    models = [(app, ModelConfig.model_validate(app["args"])) for app in apps(document, "build_model")]
    assert len(models) == 3
    for app, config in models:
        assert app["name"] == config.app_name
        assert app["route_prefix"] is None


def test_haproxy_and_guard_are_switched_on_and_the_host_is_loopback(document):
    switches = document["controller_options"]["runtime_env"]["env_vars"]
    assert switches["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert switches[HOOK_ENV] == HOOK
    assert document["http_options"]["host"] == "127.0.0.1"


def test_the_ingress_gets_the_guard_whatever_the_controller_has():
    options = ingress_options(IngressConfig(body_bytes=4096, body_s=2.5))
    environment = options["ray_actor_options"]["runtime_env"]["env_vars"]
    assert environment[HOOK_ENV] == HOOK
    assert environment["FASTSERVE_BODY_LIMITS"] == "4096,469762048,2.5,65536"


def test_the_builders_build():
    assert build(IngressConfig())
    assert build_model(ModelConfig(id="m", engine="simulated"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dispach": {}}, "did you mean 'dispatch'"),
        ({"dispatch": {"beta": 0}}, "greater than 0"),
        ({"dispatch": {"epsilon": float("nan")}}, "finite"),
        ({"deadlines": {"request_s": -1}}, "greater than 0"),
        ({"caps": {"n": 0}}, "greater than or equal to 1"),
        ({"retries": {"share": 2}}, "less than or equal to 1"),
    ],
)
def test_a_bad_setting_is_refused_with_its_reason(settings, message):
    with pytest.raises(ValidationError, match=message):
        IngressSettings.model_validate(settings)


def test_a_model_s_app_is_built_without_what_evaluator_and_learner_need():
    heavy = ("torch", "vllm", "scipy.stats", "numba")
    code = f"import sys, serve_app.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
