"""What the performance table knows, as the frozen value that every ingress replica reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from policies.cost import cost_usd
from policies.promotion.rollout import RolloutState


class ReplicaState(StrEnum):
    """COLD: loading, WARM: serves, DRAINING: finishes what it has, STALLED: engine makes no progress."""

    COLD = "cold"
    WARM = "warm"
    DRAINING = "draining"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model declares about itself when it registers, and again when its live settings change."""

    model: str
    engine: str  # "vllm", "openai" or "simulated"
    source: str
    context_tokens: int
    weight: float = 1.0  # importance w_i; 0 keeps it out of `auto`
    accuracy_prior: float = 0.5  # used until something measures it
    prompt_usd_per_mtok: float = 0.0
    completion_usd_per_mtok: float = 0.0
    capabilities: frozenset[str] = frozenset({"chat"})  # see deployments.records.operation.Capability
    generation_defaults: Mapping[str, object] = field(default_factory=dict)
    revision: str = ""  # hash of the config that made it: a change asks for a new evaluation
    tokenizer: str = ""  # hash of its tokenizer's file, which the table holds; "" where it has none
    aliases: tuple[str, ...] = ()  # its further names
    fallback: tuple[str, ...] = ()  # who answers in its place where it was named and cannot
    usd_per_hour: float = 0.0  # of one replica, whether it works or waits; 0: only tokens have a price

    def cost_usd(self, prompt_tokens: float, output_tokens: float) -> float:
        """The price of a request."""
        return cost_usd(prompt_tokens, output_tokens, self.prompt_usd_per_mtok, self.completion_usd_per_mtok)


def tokenizer_artifact(tokenizer: str) -> str:
    """The name under which the table holds a tokenizer's file."""
    return f"tokenizer:{tokenizer}"


def app_name(model: str) -> str:
    """Name of the Serve app that serves the model of this id."""
    return f"model-{model.replace('/', '--')}"


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Sketched percentiles of one quantity over the table's window; NaN while `count` is 0."""

    p50: float = float("nan")
    p95: float = float("nan")
    p99: float = float("nan")
    mean: float = float("nan")
    count: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean score in [0, 1] with its 95 % interval over `count` graded items."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """Live state of one replica, as it last pushed it. `pushed_at_s` is the table's wall clock."""

    replica: str
    model: str
    url: str  # base URL of the replica's own HTTP server, such as http://10.0.0.7:41233
    state: ReplicaState
    running: int = 0
    waiting: int = 0
    slots: int = 1  # sequences it can run at once
    kv_use: float = 0.0
    prefix_hit_rate: float = 0.0
    tokens_per_s: float = 0.0
    cpu_share: float = 0.0  # cores in use
    gpu_share: float = 0.0  # [0, 1]
    memory_bytes: int = 0
    pushed_at_s: float = 0.0
    kv_tokens: int = 0  # that its KV cache holds; 0: it does not say
    step_s: float = 0.0  # that the engine's step under way takes so far; 0 where nothing is computed


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model: its card, its live replicas and its learned statistics."""

    card: ModelCard
    replicas: tuple[ReplicaRow, ...] = ()
    in_flight: int = 0  # over all ingress replicas, as last reported
    in_flight_by_ingress: Mapping[str, int] = field(default_factory=dict)
    ttft_s: Quantiles = Quantiles()
    tpot_s: Quantiles = Quantiles()
    e2e_s: Quantiles = Quantiles()
    queue_s: Quantiles = Quantiles()
    output_tokens: Quantiles = Quantiles()
    tokens_per_s: float = 0.0
    error_rate: float = 0.0  # share of FAILED among OK + FAILED in the window
    cost_usd: float = 0.0  # spent in all
    requests: int = 0  # outcomes in all
    accuracy: Mapping[str, Estimate] = field(default_factory=dict)  # by task; "" is over all tasks
    created_s: float = 0.0  # when it first joined the pool, wall clock
    ready_in_s: float = 0.0  # above 0: it sleeps, and would serve so many seconds after it is asked for


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent reading of the table. (`boot_id`, `version`) orders snapshots of one actor life."""

    boot_id: str
    version: int
    taken_at_s: float
    models: Mapping[str, ModelRow] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)  # name -> revision; see Table.artifact
    rollout: RolloutState = field(default_factory=RolloutState)  # written by the learner
    ingresses: Mapping[str, str] = field(default_factory=dict)  # live replica -> base URL of its own server
    keys_revision: str = ""  # of Table.keys; empty while it is not known which keys hold
    keys_problem: str = ""  # why no key is accepted now
