from typing import Any

import pytest
from pydantic import ValidationError

from deployments.model.config import ModelConfig, deployment_options


def config(**changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({"id": "small", "source": "builtin:smollm2-135m", **changes})


def environment(parsed: ModelConfig) -> dict[str, str]:
    variables: dict[str, str] = deployment_options(parsed)["ray_actor_options"]["runtime_env"]["env_vars"]
    return variables


def test_a_typing_error_fails_at_load() -> None:
    with pytest.raises(ValidationError, match="did you mean 'engine_args'"):
        config(engine_arg={})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "auto"}, "reserved"),
        ({"id": "auto:x"}, "reserved"),
        ({"engine": "openai"}, "'upstream' goes with engine 'openai'"),
        ({"upstream": {"base_url": "http://x/v1"}}, "'upstream' goes with engine 'openai'"),
        ({"simulated": {}}, "'simulated' goes with engine 'simulated'"),
        ({"source": ""}, "needs a 'source'"),
        ({"weight": -1}, "greater than or equal to 0"),
        ({"accuracy_prior": 1.5}, "less than or equal to 1"),
        ({"tensor_parallel": 2, "num_gpus": 1}, "it must be 2"),
        ({"tensor_parallel": 2, "pipeline_parallel": 2, "num_gpus": 2}, "it must be 4"),
        ({"multi_node": True, "num_gpus": 1}, "more than one GPU"),
        ({"multi_node": True, "tensor_parallel": 2}, "more than one GPU"),
        ({"env": {"HF_TOKEN": "hf_x"}}, "visible in Ray's API"),
        ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "less than min_replicas, 3"),
        ({"capabilities": ["chat", "toolz"]}, "Input should be"),
    ],
)
def test_what_cannot_work_fails_at_load(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_the_card_says_what_the_config_says() -> None:
    card = config(
        weight=0,
        capabilities=["chat", "tools"],
        price={"prompt_usd_per_mtok": 1, "completion_usd_per_mtok": 2},
        generation_defaults={"temperature": 0},
    ).card()
    assert (card.model, card.engine, card.weight) == ("small", "vllm", 0.0)
    assert card.capabilities == {"chat", "tools"}
    assert (card.prompt_usd_per_mtok, card.completion_usd_per_mtok) == (1.0, 2.0)
    assert card.generation_defaults == {"temperature": 0}


def test_the_revision_changes_with_what_decides_the_answers_only() -> None:
    revision = config().card().revision
    assert (
        config(weight=0.3, price={"prompt_usd_per_mtok": 9}, max_ongoing_requests=3).card().revision
        == revision
    )
    assert config(engine_args={"dtype": "float32"}).card().revision != revision
    assert config(source="builtin:tiny").card().revision != revision


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTSERVE_HOME", raising=False)
    monkeypatch.delenv("FASTSERVE_STORE", raising=False)


def test_a_replica_finds_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSERVE_HOME", "/state")
    variables = environment(config(num_gpus=1, env={"A": "b"}))
    assert variables == {"FASTSERVE_HOME": "/state", "A": "b"}


def test_a_cpu_engine_has_as_many_threads_as_cpus_unless_told_otherwise() -> None:
    assert environment(config(num_cpus=2.5)) == {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "2",
    }
    assert environment(config(num_cpus=0.25))["OMP_NUM_THREADS"] == "1"
    assert environment(config(env={"OMP_NUM_THREADS": "7"}))["OMP_NUM_THREADS"] == "7"


def test_one_gpu_goes_to_the_replica_itself() -> None:
    options = deployment_options(config(num_gpus=1, accelerator_type="H100", env={"A": "b"}))
    assert options["ray_actor_options"] == {
        "num_cpus": 1.0,
        "num_gpus": 1.0,
        "accelerator_type": "H100",
        "runtime_env": {"env_vars": {"A": "b"}},
    }
    assert "placement_group_bundles" not in options


def test_ranks_on_one_node_share_an_actor_which_never_spans_nodes() -> None:
    options = deployment_options(config(num_cpus=8, num_gpus=2, tensor_parallel=2, accelerator_type="H100"))
    actor = options["ray_actor_options"]
    assert (actor["num_cpus"], actor["num_gpus"], actor["accelerator_type"]) == (8.0, 2.0, "H100")
    assert "placement_group_bundles" not in options


def test_ranks_over_nodes_have_a_bundle_with_one_gpu_each() -> None:
    options = deployment_options(
        config(num_cpus=8, num_gpus=4, tensor_parallel=2, pipeline_parallel=2, multi_node=True)
    )
    assert options["placement_group_bundles"] == [{"CPU": 8.0, "GPU": 1.0}, *[{"GPU": 1.0}] * 3]
    actor = options["ray_actor_options"]
    assert (actor["num_cpus"], actor["num_gpus"]) == (8.0, 0.0)
    assert actor["runtime_env"]["env_vars"]["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"] == "1"


def test_the_app_name_has_no_slash() -> None:
    assert config(id="Qwen/Qwen3-8B").app_name == "model-Qwen--Qwen3-8B"


def test_serve_waits_longer_than_the_replica_drains() -> None:
    options = deployment_options(config(drain_s=100))
    assert options["graceful_shutdown_timeout_s"] > 100
