"""What changes about a model while its replicas run: the `user_config` of deployment `Model`."""

from typing import Self

from pydantic import Field, JsonValue, field_validator, model_validator

from deployments.model.simulated_settings import SimulatedFaults
from deployments.records.operation import Capability
from policies.profile import is_auto
from policies.strict import StrictModel

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$"


class Price(StrictModel):
    """US dollars per million tokens, given, or made of what a GPU costs and what it can do."""

    # US dollars per million prompt tokens.
    prompt_usd_per_mtok: float = Field(default=0.0, ge=0)
    # US dollars per million output tokens.
    completion_usd_per_mtok: float = Field(default=0.0, ge=0)
    # US dollars per hour of one GPU, in place of prices per token. They are made of it and of the next four.
    usd_per_gpu_hour: float = Field(default=0.0, ge=0, examples=[2.5])
    # GPUs of one replica that are paid for. Default: `num_gpus`, at least 1.
    gpus: float | None = Field(default=None, gt=0, examples=[0.5])
    # Prompt tokens per second that one replica reads at full load. Required with `usd_per_gpu_hour`.
    prompt_tokens_per_s: float | None = Field(default=None, gt=0, examples=[20_000])
    # Output tokens per second that one replica writes at full load. Required with `usd_per_gpu_hour`.
    output_tokens_per_s: float | None = Field(default=None, gt=0, examples=[2_000])
    # Share of full load at which the price by token pays for the replica. What it costs below that is shown
    # apart, as idle.
    utilisation: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        speeds = (self.prompt_tokens_per_s, self.output_tokens_per_s)
        if self.usd_per_gpu_hour and (self.prompt_usd_per_mtok or self.completion_usd_per_mtok):
            raise ValueError("price: give either prices per million tokens or 'usd_per_gpu_hour'.")
        if self.usd_per_gpu_hour and None in speeds:
            raise ValueError(
                "price: 'usd_per_gpu_hour' needs 'prompt_tokens_per_s' and 'output_tokens_per_s', as one "
                "replica reaches at full load."
            )
        return self

    def usd_per_hour(self, num_gpus: float) -> float:
        """What one replica costs, whether it works or waits; 0 where only tokens have a price."""
        return self.usd_per_gpu_hour * (self.gpus or max(num_gpus, 1.0))

    def usd_per_mtok(self, num_gpus: float) -> tuple[float, float]:
        """Prices of a million prompt tokens and of a million output tokens."""
        if not (self.usd_per_gpu_hour and self.prompt_tokens_per_s and self.output_tokens_per_s):
            return self.prompt_usd_per_mtok, self.completion_usd_per_mtok
        mega_usd_s = self.usd_per_hour(num_gpus) / 3600.0 / self.utilisation * 1e6
        return mega_usd_s / self.prompt_tokens_per_s, mega_usd_s / self.output_tokens_per_s


class ModelSettings(StrictModel):
    """Everything about a model that does not need its process: a change restarts nothing."""

    # Further names of the model in requests. Keys, prices and limits know the model by its id only.
    aliases: tuple[str, ...] = Field(default=(), examples=[["gpt-4o-mini"]])
    # Ids of models that answer, in this order, when the model was named and cannot answer. Their own chains
    # follow. `x-fastserve-fallbacks` names who was passed over.
    fallback: tuple[str, ...] = Field(default=(), examples=[["smollm2-135m"]])
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
    # Requests that one replica accepts at once. Further requests get 429 and go to another replica.
    max_ongoing_requests: int = Field(default=64, ge=1)
    # Seconds that an engine with running requests may make no step while its processes and devices are idle.
    # Then the replica counts as stalled and Serve replaces it. One that computes has 20 times as long,
    # the last of a model 120 times, and each ten times its longest step of late.
    stall_s: float = Field(default=30.0, gt=0)
    # Seconds that a replica may finish its streams before it is stopped. Above 60 the deployment's entry
    # needs `graceful_shutdown_timeout_s`, 45 more than this.
    drain_s: float = Field(default=60.0, ge=0)
    # Faults of engine `simulated`, in place of those in its `args`; refused for others.
    faults: SimulatedFaults | None = None

    @field_validator("aliases")
    @classmethod
    def _free_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if is_auto(name):
                raise ValueError(f"Alias '{name}' is reserved for dispatch. Choose another one.")
        return value

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        for key, names in (("aliases", self.aliases), ("fallback", self.fallback)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"'{key}' names '{twice[0]}' twice. Remove one.")
        return self
