"""Engine `vllm`: vLLM's AsyncLLM and its own OpenAI app inside the replica."""

import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.bound_versions import VersionError, require_version
from deployments.home import home
from deployments.model.config import ModelConfig
from deployments.model.engines.base import Engine, EngineError, EngineStats
from deployments.model.engines.http import request_id
from deployments.model.engines.vllm_records import decision_id, merge
from deployments.model.files import BUILTIN, prepare_source
from deployments.model.load import GpuLoad, ProcessLoad
from deployments.records.records import EngineRecord

BUSY_CORES = 0.1  # an engine that waits for nothing uses less, one that computes more, on a full machine too
LATE_RECORD_S = 0.2  # vLLM may report a request just after its last byte
KEPT_ID_S = 10.0
TOOL_FLAGS: dict[str, JsonValue] = {
    "enable-auto-tool-choice": True,
    "tool-call-parser": "hermes",
    "tool-strict-level": "parameter",  # arguments follow the tool's schema, which small models need
}


class VllmEngine(Engine):
    """Serves one model with vLLM, on GPU or CPU. What its API takes passes through unchanged."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._answered_s: dict[str, float] = {}  # decision id -> when its answer ended, inf before

    async def start(self) -> ASGIApp:
        """Load the weights and build vLLM's app.

        Raises:
            EngineError: a flag that vLLM does not know, or weights that it cannot load.
        """
        _require_bound_version()
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.app import build_app
        from vllm.third_party import pynvml
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        from deployments.model.engines.vllm_records import StatLogger

        source = self._config.source
        path = await asyncio.to_thread(_resolve, source)
        args = parse_arguments(command_line(self._config, path))
        self._loggers: list[StatLogger] = []

        def logger(vllm_config: Any, engine_index: int = 0) -> StatLogger:
            self._loggers.append(StatLogger(vllm_config, engine_index))
            return self._loggers[-1]

        try:
            vllm_config = _engine_args(args).create_engine_config(
                usage_context=UsageContext.OPENAI_API_SERVER
            )
            self._llm = AsyncLLM.from_vllm_config(
                vllm_config,
                usage_context=UsageContext.OPENAI_API_SERVER,
                stat_loggers=[logger],
                disable_log_stats=args.disable_log_stats,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"vLLM cannot load '{source}': {error}") from error
        self._slots = int(vllm_config.scheduler_config.max_num_seqs)
        cache = vllm_config.cache_config
        self._kv_tokens = int(cache.num_gpu_blocks or 0) * int(cache.block_size)
        self._gpus = GpuLoad(pynvml)
        self._processes = ProcessLoad()
        tasks = await self._llm.get_supported_tasks()
        self._app = build_app(args, tasks, self._llm.model_config)
        await init_app_state(self._llm, self._app.state, args, tasks)
        return self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        decision = request_id(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if decision is None:
            await self._app(scope, receive, send)
            return
        if not self._llm.output_processor.has_unfinished_requests():
            self._touch()
        self._answered_s[decision] = math.inf
        try:
            await self._app(scope, receive, send)
        finally:
            self._answered_s[decision] = time.monotonic()

    def _touch(self) -> None:
        """An idle engine makes no steps: its time without progress starts with the next request."""
        for logger in self._loggers:
            logger.progressed_s = time.monotonic()

    def stats(self) -> EngineStats:
        """Sums over vLLM's engines; running is what vLLM's front end holds, so an abort shows at once."""
        unfinished = self._llm.output_processor.get_num_unfinished_requests()
        waiting = min(unfinished, sum(logger.waiting for logger in self._loggers))
        count = max(1, len(self._loggers))
        gpu_share = self._gpus.sample()
        return EngineStats(
            running=unfinished - waiting,
            waiting=waiting,
            slots=self._slots * count,
            kv_use=sum(logger.kv_use for logger in self._loggers) / count if unfinished else 0.0,
            kv_tokens=self._kv_tokens,
            prefix_hit_rate=sum(logger.prefix_hit_rate for logger in self._loggers) / count,
            tokens_per_s=sum(logger.tokens_per_s for logger in self._loggers),
            gpu_share=gpu_share,
            is_computing=gpu_share > 0 or self._is_computing(),
            progressed_s=max((logger.progressed_s for logger in self._loggers), default=time.monotonic()),
            longest_step_s=max((logger.longest_step_s for logger in self._loggers), default=0.0),
        )

    def _is_computing(self) -> bool:
        """Whether vLLM's processes compute, or would if the machine let them: on a full one they get less."""
        return self._processes.sample()[0] > BUSY_CORES or self._processes.children_wait_for_cores

    def take_finished(self) -> list[EngineRecord]:
        """The finished requests, the choices of one request merged; those still answering are kept."""
        now_s = time.monotonic()
        groups: dict[str, list[EngineRecord]] = {}
        for logger in self._loggers:
            for name in list(logger.finished):
                decision = decision_id(name, self._answered_s)
                if self._answered_s.get(decision, 0.0) < now_s - LATE_RECORD_S:
                    groups.setdefault(decision, []).extend(logger.finished.pop(name))
        self._answered_s = {
            name: ended_s for name, ended_s in self._answered_s.items() if ended_s > now_s - KEPT_ID_S
        }
        return [merge(records, decision) for decision, records in groups.items()]

    async def check_health(self) -> None:
        """Fail when vLLM's engine process is dead."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await self._llm.check_health()
        except EngineDeadError as error:
            raise EngineError(f"vLLM's engine of model '{self._config.id}' is dead.") from error

    async def stop(self) -> None:
        """End vLLM's processes."""
        await asyncio.to_thread(self._llm.shutdown)


def _require_bound_version() -> None:
    import vllm

    try:
        require_version("vllm", vllm.__version__)
    except VersionError as error:
        raise EngineError(str(error)) from error


def _resolve(source: str) -> str:
    """A folder for a built-in model or a path; a hub name stays as it is."""
    if source.startswith(BUILTIN) or Path(source).expanduser().is_dir():
        return str(prepare_source(source, home(), progress=lambda _: None))
    return source


# By its path: vLLM turns the short name `uni` into `mp` on CPU.
IN_THE_CORE: Final = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
NO_DOMAIN: Final = "media.invalid"  # vLLM takes an empty list for all the world


def command_line(config: ModelConfig, path: str) -> list[str]:
    """vLLM's command-line flags: ours from the config, then `engine_args`, which win.

    A model that does not call tools as Hermes does names its own parser. Whether requests with tools reach
    it, its capabilities say, which change live.
    `true` becomes `--flag`, `false` becomes `--no-flag`, an object becomes JSON.
    """
    flags: dict[str, JsonValue] = {
        "model": path,
        "served-model-name": config.id,
        "max-model-len": config.context_tokens,
        "tensor-parallel-size": config.tensor_parallel,
        "pipeline-parallel-size": config.pipeline_parallel,
        "disable-log-stats": True,
        "disable-fastapi-docs": True,
        **TOOL_FLAGS,
        "allowed-media-domains": [NO_DOMAIN],
    }
    executor = _executor(config)
    if executor is not None:
        flags["distributed-executor-backend"] = executor
    if config.revision is not None:
        flags["revision"] = config.revision
    flags.update({name.replace("_", "-"): value for name, value in config.engine_args.items()})
    return [word for name, value in flags.items() for word in _flag(name, value)]


def _executor(config: ModelConfig) -> str | None:
    """Where vLLM runs the ranks of a model; None leaves it to vLLM.

    On CPU vLLM puts its one worker into a third process, to bind that to cores. Where nothing is bound, as is
    our default, the process of the engine's core does the worker's part: each start imports vLLM once less,
    and no step waits for a message between the two.
    """
    if config.ranks > 1:
        return "ray" if config.multi_node else "mp"
    is_unbound = not config.num_gpus and config.env.get("VLLM_CPU_OMP_THREADS_BIND", "nobind") == "nobind"
    return IN_THE_CORE if is_unbound else None


def _flag(name: str, value: JsonValue) -> list[str]:
    if value is True:
        return [f"--{name}"]
    if value is False:
        return [f"--no-{name}"]
    if isinstance(value, list):
        return [f"--{name}", *(str(item) for item in value)]
    if isinstance(value, dict):
        return [f"--{name}", json.dumps(value)]
    return [] if value is None else [f"--{name}", str(value)]


def parse_arguments(words: list[str]) -> Any:
    """vLLM's own parser and checks over the flags.

    Raises:
        EngineError: vLLM refuses them.
    """
    from vllm.entrypoints.launchers.cli_args import validate_parsed_serve_args

    args = _parser().parse_args(words)
    try:
        validate_parsed_serve_args(args)
    except (TypeError, ValueError) as error:
        raise EngineError(f"vLLM refuses its arguments: {error}") from error
    return args


def known_flags() -> list[str]:
    """Every flag that vLLM's parser has, with its dashes."""
    return [flag for action in _parser()._actions for flag in action.option_strings]


def _parser() -> Any:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(_Parser(FlexibleArgumentParser))


def _Parser(base: Any) -> Any:  # noqa: N802
    """vLLM's parser, raising instead of ending the process."""

    def fail(self: Any, message: str) -> None:
        raise EngineError(f"vLLM refuses its arguments: {message}")

    return type("Parser", (base,), {"error": fail})()


def _engine_args(args: Any) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs

    return AsyncEngineArgs.from_cli_args(args)
