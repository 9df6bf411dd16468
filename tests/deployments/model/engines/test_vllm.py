from typing import Any

import pytest

from deployments.model.config import ModelConfig
from deployments.model.engines.base import EngineError
from deployments.model.engines.vllm import IN_THE_CORE, command_line, parse_arguments


def words(**changes: Any) -> list[str]:
    config = ModelConfig.model_validate(
        {"id": "small", "source": "builtin:tiny", "context_tokens": 777, **changes}
    )
    return command_line(config, "/weights")


def test_the_config_becomes_flags() -> None:
    flags = " ".join(words(tensor_parallel=2, revision="abc"))
    for flag in (
        "--model /weights",
        "--served-model-name small",
        "--max-model-len 777",
        "--tensor-parallel-size 2",
        "--revision abc",
    ):
        assert flag in flags


@pytest.mark.parametrize(
    ("changes", "executor"),
    [
        ({}, IN_THE_CORE),
        ({"env": {"VLLM_CPU_OMP_THREADS_BIND": "0-3"}}, None),
        ({"num_gpus": 1}, None),
        ({"tensor_parallel": 2}, "mp"),
        ({"tensor_parallel": 2, "num_gpus": 2}, "mp"),
        ({"pipeline_parallel": 2, "num_gpus": 2, "multi_node": True}, "ray"),
    ],
)
def test_the_executor_follows_from_where_the_ranks_are(changes: dict[str, Any], executor: str | None) -> None:
    assert parse_arguments(words(**changes)).distributed_executor_backend == executor


def test_the_executor_of_one_rank_on_cpu_is_vllm_s_own_for_one_process() -> None:
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    assert f"{UniProcExecutor.__module__}.{UniProcExecutor.__qualname__}" == IN_THE_CORE


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, ["--some-flag"]),
        (False, ["--no-some-flag"]),
        (3, ["--some-flag", "3"]),
        ("x", ["--some-flag", "x"]),
        ([1, 2], ["--some-flag", "1", "2"]),
        ({"a": [1]}, ["--some-flag", '{"a": [1]}']),
    ],
)
def test_engine_args_become_flags_of_their_kind(value: Any, expected: list[str]) -> None:
    assert words(engine_args={"some_flag": value})[-len(expected) :] == expected


def test_engine_args_win_and_null_takes_a_flag_away() -> None:
    flags = words(engine_args={"max_model_len": 5, "disable-log-stats": None})
    assert flags[flags.index("--max-model-len") + 1] == "5"
    assert flags.count("--max-model-len") == 1
    assert "--disable-log-stats" not in flags


@pytest.mark.vllm
def test_vllm_takes_the_flags() -> None:
    args = parse_arguments(words(engine_args={"enforce_eager": True, "max_num_seqs": 4}))
    assert (args.served_model_name, args.max_model_len, args.max_num_seqs) == (["small"], 777, 4)
    assert args.enforce_eager is True


@pytest.mark.vllm
@pytest.mark.parametrize("engine_args", [{"no_such_flag": 1}, {"tool_call_parser": None}])
def test_flags_that_vllm_refuses_are_an_error_of_ours(engine_args: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="vLLM refuses its arguments"):
        parse_arguments(words(engine_args=engine_args))


def test_a_model_gets_a_parser_of_tool_calls_unless_it_names_one() -> None:
    given = words()
    assert given[given.index("--tool-call-parser") + 1] == "hermes"
    named = words(engine_args={"tool_call_parser": "llama3_json"})
    assert named[named.index("--tool-call-parser") + 1] == "llama3_json"
