from typing import Any

import pytest
from pydantic import ValidationError

from deployments.model.config import ModelConfig, deployment_options
from deployments.model.settings import ModelSettings


def config(**changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({"id": "small", "source": "builtin:smollm2-135m", **changes})


def settings(**changes: Any) -> ModelSettings:
    return ModelSettings.model_validate(changes)


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
        ({"tensor_parallel": 2, "num_gpus": 1}, "it must be 2"),
        ({"tensor_parallel": 2, "pipeline_parallel": 2, "num_gpus": 2}, "it must be 4"),
        ({"multi_node": True, "num_gpus": 1}, "more than one GPU"),
        ({"multi_node": True, "tensor_parallel": 2}, "more than one GPU"),
        ({"env": {"HF_TOKEN": "hf_x"}}, "visible in Ray's API"),
        ({"price": {}}, "'price' changes live and is no argument"),
        ({"autoscaling": {}}, "write 'autoscaling_config' or 'num_replicas'"),
    ],
)
def test_what_cannot_work_fails_at_load(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_the_card_says_what_the_config_says() -> None:
    card = config().card(
        settings(
            weight=0,
            capabilities=["chat", "tools"],
            price={"prompt_usd_per_mtok": 1, "completion_usd_per_mtok": 2},
            generation_defaults={"temperature": 0},
        )
    )
    assert (card.model, card.engine, card.weight) == ("small", "vllm", 0.0)
    assert card.capabilities == {"chat", "tools"}
    assert (card.prompt_usd_per_mtok, card.completion_usd_per_mtok) == (1.0, 2.0)
    assert card.generation_defaults == {"temperature": 0}


def test_the_revision_changes_with_what_decides_the_answers_only() -> None:
    plain = settings()
    revision = config().card(plain).revision
    priced = settings(weight=0.3, price={"prompt_usd_per_mtok": 9}, max_ongoing_requests=3)
    assert config().card(priced).revision == revision
    assert config().card(settings(generation_defaults={"temperature": 0})).revision != revision
    assert config(engine_args={"dtype": "float32"}).card(plain).revision != revision
    assert config(source="builtin:tiny").card(plain).revision != revision


def test_a_replica_gets_its_own_variables_and_nothing_of_the_builders_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FASTSERVE_HOME", "/state")
    variables = environment(config(num_gpus=1, env={"A": "b"}))
    assert variables == {"VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0", "A": "b"}


def test_a_cpu_engine_has_as_many_threads_as_cpus_unless_told_otherwise() -> None:
    assert environment(config(num_cpus=2.5)) == {
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
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
        "runtime_env": {"env_vars": {"VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0", "A": "b"}},
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
    assert deployment_options(config())["graceful_shutdown_timeout_s"] > settings().drain_s
