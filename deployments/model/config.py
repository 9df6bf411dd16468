"""One model of the pool as the operator declares it: the `args` of the Serve app `model-<id>`."""

import hashlib
import json
import re
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from deployments.model.settings import NAME_PATTERN, ModelSettings
from deployments.model.simulated_settings import SimulatedSettings
from deployments.records.snapshot import ModelCard, app_name
from policies.profile import is_auto
from policies.strict import StrictModel

SECRET_NAME = re.compile(r"(^|_)(TOKEN|KEY|SECRET|PASSWORD)S?$")  # of an environment variable
SERVE_REQUESTS = 1_000  # bounds what Serve itself sends, which is nothing: requests come by HTTP
SHUTDOWN_S = 105.0  # before Serve kills a replica that leaves: a drain of 60 s by default, and
HEALTH_CHECK_S = 30.0  # until no answer is a failed check, of which Serve bears two: on a full machine a
# replica that renders long prompts answers late, and one that is dead Ray tells at once
SHUTDOWN_MARGIN_S = 45.0  # in HAProxy mode Serve waits 30 s before it lets a replica drain


class Upstream(StrictModel):
    """Where engine `openai` sends its requests. The key comes from the environment, never from here."""

    # URL of the OpenAI-compatible endpoint, with its version path.
    base_url: str = Field(pattern=r"^https?://[^\s/]+", examples=["https://api.example.com/v1"])
    # Name of the environment variable that holds the endpoint's API key. Leave out to send no key.
    key_env: str | None = Field(default=None, examples=["UPSTREAM_API_KEY"])
    # The endpoint's name of the model. Default: the model's `id` here.
    model: str | None = Field(default=None, examples=["vendor-large-2"])
    # Seconds to wait for a connection before the try fails.
    connect_timeout_s: float = Field(default=5.0, gt=0)
    # Number of failed requests in a row after which the replica counts as unhealthy.
    failures_until_unhealthy: int = Field(default=5, ge=1)


class ModelConfig(StrictModel):
    """What a model's processes need; a change replaces its replicas, and no other model's."""

    # Name of the model in requests and in the name of its app. `auto` is reserved.
    id: str = Field(pattern=NAME_PATTERN)
    # Where the weights are: a folder, a name on the Hugging Face hub, or `builtin:<name>`. Required for
    # engine `vllm`; engine `openai` reads only the tokenizer there, to count prompts beforehand.
    source: str = ""
    # Branch, tag or commit of a hub name. Default: the hub's main branch.
    revision: str | None = Field(default=None, examples=["main"])
    # Engine of the replicas: `vllm`, `openai` (another endpoint, see `upstream`) or `simulated` (for tests of
    # load and failures).
    engine: Literal["vllm", "openai", "simulated"] = "vllm"
    # Flags of vLLM by name, without leading dashes. `true` sets a flag, `false` sets its `no-` form.
    engine_args: dict[str, JsonValue] = Field(default_factory=dict)
    # Environment variables of the replicas. Ray's API shows their values, so name the file of a secret here.
    env: dict[str, str] = Field(default_factory=dict)
    # CPUs that Ray reserves for each replica. They also set the number of threads of a CPU engine.
    num_cpus: float = Field(default=1.0, ge=0)
    # GPUs of each replica: `tensor_parallel` times `pipeline_parallel`; 0 serves on the CPU.
    num_gpus: float = Field(default=0.0, ge=0)
    # Ray's name of the GPU type that a replica needs. Default: any type.
    accelerator_type: str | None = Field(default=None, examples=["H100"])
    # Number of GPUs, or of processes on the CPU, that each share a part of every layer.
    tensor_parallel: int = Field(default=1, ge=1)
    # Number of stages into which the layers are cut, each on GPUs of its own.
    pipeline_parallel: int = Field(default=1, ge=1)
    # Let the GPUs of one replica lie on several nodes. Default: all on one node, which is faster.
    multi_node: bool = False
    # Longest prompt and answer together, in tokens.
    context_tokens: int = Field(default=2048, ge=1)
    # Settings of engine `openai`; required for it and refused for others.
    upstream: Upstream | None = None
    # Settings of engine `simulated`; refused for others.
    simulated: SimulatedSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _live_elsewhere(cls, data: Any) -> Any:
        live = sorted(ModelSettings.model_fields.keys() & data) if isinstance(data, dict) else []
        if live:
            raise ValueError(
                f"'{live[0]}' changes live and is no argument: put it into 'user_config' of the deployment "
                "'Model'."
            )
        if isinstance(data, dict) and "autoscaling" in data:
            raise ValueError(
                "'autoscaling' is Serve's: write 'autoscaling_config' or 'num_replicas' for the deployment "
                "'Model'."
            )
        return data

    @field_validator("id")
    @classmethod
    def _free_id(cls, value: str) -> str:
        if is_auto(value):
            raise ValueError(f"Model id '{value}' is reserved for dispatch. Choose another one.")
        return value

    @model_validator(mode="after")
    def _engine_parts_match(self) -> Self:
        if (self.engine == "openai") != (self.upstream is not None):
            raise ValueError(f"Model '{self.id}': 'upstream' goes with engine 'openai' and only with it.")
        if self.simulated is not None and self.engine != "simulated":
            raise ValueError(f"Model '{self.id}': 'simulated' goes with engine 'simulated' only.")
        if self.engine == "vllm" and not self.source:
            raise ValueError(f"Model '{self.id}': engine 'vllm' needs a 'source'.")
        return self

    @model_validator(mode="after")
    def _whole_accelerators(self) -> Self:
        if self.ranks > 1 and self.num_gpus not in (0, self.ranks):
            raise ValueError(
                f"Model '{self.id}': num_gpus is {self.num_gpus:g}, but with tensor_parallel "
                f"{self.tensor_parallel} and pipeline_parallel {self.pipeline_parallel} it must be "
                f"{self.ranks}, or 0 on CPU."
            )
        if self.multi_node and (self.ranks == 1 or not self.num_gpus):
            raise ValueError(f"Model '{self.id}': 'multi_node' needs a replica with more than one GPU.")
        return self

    @model_validator(mode="after")
    def _no_token_in_the_open(self) -> Self:
        shown = sorted(name for name in self.env if SECRET_NAME.search(name))
        if shown:
            raise ValueError(
                f"Model '{self.id}': '{shown[0]}' in 'env' would be visible in Ray's API and logs. Set it in "
                f"the environment that starts Ray on every node; for the hub name a file in 'HF_TOKEN_PATH'."
            )
        return self

    @property
    def ranks(self) -> int:
        """Number of processes that compute one replica, each with a GPU of its own or on the CPU."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def app_name(self) -> str:
        """Name of this model's Serve app."""
        return app_name(self.id)

    def card(self, settings: ModelSettings, tokenizer: str = "") -> ModelCard:
        """What the model declares to the performance table."""
        prompt_usd, completion_usd = settings.price.usd_per_mtok(self.num_gpus)
        return ModelCard(
            model=self.id,
            engine=self.engine,
            source=self.source or (self.upstream.base_url if self.upstream else self.engine),
            context_tokens=self.context_tokens,
            weight=settings.weight,
            accuracy_prior=settings.accuracy_prior,
            prompt_usd_per_mtok=prompt_usd,
            completion_usd_per_mtok=completion_usd,
            usd_per_hour=settings.price.usd_per_hour(self.num_gpus),
            capabilities=frozenset(settings.capabilities),
            generation_defaults=dict(settings.generation_defaults),
            revision=self._revision(settings),
            tokenizer=tokenizer,
            aliases=settings.aliases,
            fallback=settings.fallback,
        )

    def _revision(self, settings: ModelSettings) -> str:
        """Hash of what decides the answers: its change asks for a new evaluation."""
        answering = self.model_dump(
            mode="json",
            include={
                "id",
                "source",
                "revision",
                "engine",
                "engine_args",
                "context_tokens",
                "upstream",
                "simulated",
            },
        )
        answering["generation_defaults"] = settings.generation_defaults
        return hashlib.sha256(json.dumps(answering, sort_keys=True).encode()).hexdigest()[:12]


def deployment_options(config: ModelConfig) -> dict[str, Any]:
    """Options for `serve.deployment(Model, **options)`: resources, health checks, how long it may leave.

    Serve's own entry in the file says how many replicas run: what stood here would need a restart.
    """
    options: dict[str, Any] = {
        "name": "Model",
        "user_config": {},  # or settings that leave the file would stay in force
        "max_ongoing_requests": SERVE_REQUESTS,
        "health_check_period_s": 2.0,
        "health_check_timeout_s": HEALTH_CHECK_S,
        "graceful_shutdown_timeout_s": SHUTDOWN_S,
        "graceful_shutdown_wait_loop_s": 0.5,
    }
    options.update(_placement(config))
    return options


def _placement(config: ModelConfig) -> dict[str, Any]:
    """Where a replica goes.

    On one node: an actor that holds all of the replica's GPUs; the ranks are its child processes (vLLM's
    executor `mp`). An actor never spans nodes, so the ranks stay within reach of each other.
    Over nodes: a placement group with a bundle for each rank, where vLLM's executor `ray` starts an actor for
    each. vLLM refuses bundles with more than one GPU. The replica is in the first bundle and holds no GPU.
    """
    variables = _environment(config)
    environment = {"runtime_env": {"env_vars": variables}} if variables else {}
    if not config.multi_node:
        accelerator = {"accelerator_type": config.accelerator_type} if config.accelerator_type else {}
        resources = {"num_cpus": config.num_cpus, "num_gpus": config.num_gpus}
        return {"ray_actor_options": {**resources, **accelerator, **environment}}
    bundle = {"GPU": 1.0}
    if config.accelerator_type:
        bundle[f"accelerator_type:{config.accelerator_type}"] = 0.001
    first = {"CPU": config.num_cpus, **bundle}
    return {
        "ray_actor_options": {"num_cpus": config.num_cpus, "num_gpus": 0.0, **environment},
        "placement_group_bundles": [first, *([bundle] * (config.ranks - 1))],
        "placement_group_strategy": "PACK",
    }


def _environment(config: ModelConfig) -> dict[str, str]:
    """The replica's environment variables; `env` wins.

    vLLM on CPU: as many threads as CPUs asked for, placed by the kernel. By default vLLM binds every engine
    to the same cores, and threads beyond the free cores spin at barriers: many times slower than one thread.
    """
    variables: dict[str, str] = {}
    if config.engine == "vllm":
        variables["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] = "0"
    if config.engine == "vllm" and not config.num_gpus:
        variables["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        variables["OMP_NUM_THREADS"] = str(max(1, int(config.num_cpus)))
    if config.multi_node:  # the replica holds no GPU, but vLLM asks the ones of its node what they are
        variables["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"] = "1"
    return {**variables, **config.env}
