"""One model of the pool as the operator declares it: the `args` of the Serve app `model-<id>`."""

import hashlib
import json
import os
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from deployments.model.simulated_settings import SimulatedSettings
from deployments.records.snapshot import ModelCard
from policies.profile import is_auto
from policies.strict import StrictModel

Capability = Literal["chat", "tools", "vision", "json", "embeddings"]
PASSED_ON = ("FASTSERVE_HOME", "FASTSERVE_STORE")  # where weights and the table's store are
HUB_TOKENS = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
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


class Price(StrictModel):
    """US dollars per million tokens."""

    # US dollars per million prompt tokens.
    prompt_usd_per_mtok: float = Field(default=0.0, ge=0)
    # US dollars per million output tokens.
    completion_usd_per_mtok: float = Field(default=0.0, ge=0)


class Autoscaling(StrictModel):
    """Bounds and target of the number of replicas; names are Ray Serve's."""

    # Smallest number of replicas.
    min_replicas: int = Field(default=1, ge=1)
    # Largest number of replicas; not below `min_replicas`.
    max_replicas: int = Field(default=1, ge=1)
    # Requests, running and waiting, that each replica should have. More adds replicas, fewer removes them.
    target_ongoing_requests: float = Field(default=16.0, gt=0)
    # Seconds for which the load must be too high before replicas are added.
    upscale_delay_s: float = Field(default=10.0, ge=0)
    # Seconds for which the load must be too low before replicas are removed.
    downscale_delay_s: float = Field(default=300.0, ge=0)
    # Seconds over which the number of requests is averaged. Use more than 10, the interval of Serve's
    # metrics.
    look_back_period_s: float = Field(default=12.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas is {self.max_replicas}, less than min_replicas, {self.min_replicas}."
            )
        return self


class ModelConfig(StrictModel):
    """Everything about one model of the pool; a change restarts its replicas, and no other model's."""

    # Name of the model in requests and in the name of its app. `auto` is reserved.
    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")
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
    # How many replicas run.
    autoscaling: Autoscaling = Autoscaling()
    # Requests that one replica accepts at once. Further requests get 429 and go to another replica.
    max_ongoing_requests: int = Field(default=64, ge=1)
    # Longest prompt and answer together, in tokens.
    context_tokens: int = Field(default=2048, ge=1)
    # What the model can do. `auto` sends a request only to models that have every capability it needs.
    capabilities: frozenset[Capability] = frozenset({"chat"})
    # Price of the model, used for cost in dispatch, budgets and reports.
    price: Price = Price()
    # Importance w_i of the model in the formula. 0 keeps it out of `auto`; it still answers its own name.
    weight: float = Field(default=1.0, ge=0)
    # Expected accuracy, used until evaluation has measured it.
    accuracy_prior: float = Field(default=0.5, ge=0, le=1)
    # Request fields that are set where neither the caller nor the profile gives them.
    generation_defaults: dict[str, JsonValue] = Field(default_factory=dict, examples=[{"temperature": 0.2}])
    # Seconds that an engine with running requests may make no step while its processes and devices are idle.
    # Then the replica counts as stalled and Serve replaces it. One that computes has 20 times as long.
    stall_s: float = Field(default=30.0, gt=0)
    # Seconds that a replica may finish its streams before it is stopped.
    drain_s: float = Field(default=60.0, ge=0)
    # Settings of engine `openai`; required for it and refused for others.
    upstream: Upstream | None = None
    # Settings of engine `simulated`; refused for others.
    simulated: SimulatedSettings | None = None

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
        shown = sorted(HUB_TOKENS & self.env.keys())
        if shown:
            raise ValueError(
                f"Model '{self.id}': '{shown[0]}' in 'env' would be visible in Ray's API. Put the token into "
                f"a file on every node and name the file in 'HF_TOKEN_PATH'."
            )
        return self

    @property
    def ranks(self) -> int:
        """Number of processes that compute one replica, each with a GPU of its own or on the CPU."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def app_name(self) -> str:
        """Name of this model's Serve app."""
        return f"model-{self.id.replace('/', '--')}"

    def card(self) -> ModelCard:
        """What the model declares to the performance table."""
        return ModelCard(
            model=self.id,
            engine=self.engine,
            source=self.source or (self.upstream.base_url if self.upstream else self.engine),
            context_tokens=self.context_tokens,
            weight=self.weight,
            accuracy_prior=self.accuracy_prior,
            prompt_usd_per_mtok=self.price.prompt_usd_per_mtok,
            completion_usd_per_mtok=self.price.completion_usd_per_mtok,
            capabilities=frozenset(self.capabilities),
            generation_defaults=dict(self.generation_defaults),
            revision=self._revision(),
        )

    def _revision(self) -> str:
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
                "generation_defaults",
                "upstream",
                "simulated",
            },
        )
        return hashlib.sha256(json.dumps(answering, sort_keys=True).encode()).hexdigest()[:12]


def deployment_options(config: ModelConfig) -> dict[str, Any]:
    """Options for `serve.deployment(Model, **options)`: resources, autoscaling, health and drain times."""
    scaling = config.autoscaling
    options: dict[str, Any] = {
        "name": "Model",
        "max_ongoing_requests": config.max_ongoing_requests,
        "health_check_period_s": 2.0,
        "health_check_timeout_s": 10.0,
        "graceful_shutdown_timeout_s": config.drain_s + SHUTDOWN_MARGIN_S,
        "graceful_shutdown_wait_loop_s": 0.5,
        "autoscaling_config": {
            **scaling.model_dump(),
            "policy": {"policy_function": "deployments.model.autoscaling:ongoing_requests"},
        },
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
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if config.engine == "vllm" and not config.num_gpus:
        variables["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        variables["OMP_NUM_THREADS"] = str(max(1, int(config.num_cpus)))
    if config.multi_node:  # the replica holds no GPU, but vLLM asks the ones of its node what they are
        variables["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"] = "1"
    return {**variables, **config.env}
