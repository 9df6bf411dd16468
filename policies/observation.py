"""What a policy sees of one request: every field with its unit and range, in one place."""

from dataclasses import dataclass
from typing import Final

from policies.arrays import F64, Bools

OBSERVATION_VERSION: Final = 1  # raised whenever a field is added, removed or changes its meaning


@dataclass(frozen=True, slots=True)
class Field:
    """One column of an observation."""

    name: str
    unit: str
    low: float
    high: float
    meaning: str


INF: Final = float("inf")

MODEL_FIELDS: Final = (
    Field("weight", "1", 0.0, INF, "importance weight w_i; 0 keeps the model out of `auto`"),
    Field("accuracy", "1", 0.0, 1.0, "predicted expected score for this prompt"),
    Field("accuracy_std", "1", 0.0, 1.0, "standard error of the predicted score"),
    Field("ttft_s", "s", 0.0, INF, "predicted time to first token at this load"),
    Field("e2e_s", "s", 0.0, INF, "predicted end-to-end latency at this load and output length"),
    Field("tpot_s", "s", 0.0, INF, "measured mean time per output token after the first"),
    Field("cost_usd", "USD", 0.0, INF, "predicted cost of this request"),
    Field("in_flight", "requests", 0.0, INF, "requests sent and not finished, all ingress replicas"),
    Field("waiting", "requests", 0.0, INF, "requests queued inside the engine"),
    Field("slots", "requests", 0.0, INF, "sequences the ready replicas can run at once"),
    Field("kv_use", "1", 0.0, 1.0, "share of the KV cache in use, mean over replicas"),
    Field("error_rate", "1", 0.0, 1.0, "share of recent requests that failed for the model's reasons"),
    Field("replicas", "replicas", 0.0, INF, "ready replicas"),
    Field("cold", "1", 0.0, 1.0, "1 while no replica is warm"),
    Field("age_s", "s", 0.0, INF, "age of this row when read"),
)

PROMPT_FIELDS: Final = (
    Field("prompt_tokens", "tokens", 0.0, INF, "estimated length of the prompt"),
    Field("output_tokens", "tokens", 0.0, INF, "predicted length of the answer, capped by max_tokens"),
    Field("turns", "messages", 0.0, INF, "messages in the conversation"),
    Field("cjk_share", "1", 0.0, 1.0, "share of Chinese, Japanese and Korean characters"),
    Field("digit_share", "1", 0.0, 1.0, "share of digits"),
    Field("code_hint", "1", 0.0, 1.0, "1 if the prompt looks like code"),
    Field("maths_hint", "1", 0.0, 1.0, "1 if the prompt looks like mathematics"),
    Field("structure_hint", "1", 0.0, 1.0, "1 if JSON, a schema, tools or a table are asked for"),
)

CALLER_FIELDS: Final = (
    Field("accuracy_weight", "1", 0.0, INF, "a1 of the formula"),
    Field("latency_weight", "1", 0.0, INF, "a2 of the formula"),
    Field("cost_weight", "1", 0.0, INF, "a3 of the formula"),
    Field("target_s", "s", 0.0, INF, "latency target; 0 where the caller has none"),
)

MODEL_COLUMN: Final = {field.name: i for i, field in enumerate(MODEL_FIELDS)}
PROMPT_COLUMN: Final = {field.name: i for i, field in enumerate(PROMPT_FIELDS)}
CALLER_COLUMN: Final = {field.name: i for i, field in enumerate(CALLER_FIELDS)}

# Columns as constants, for compiled code, which cannot read a dictionary.
WEIGHT: Final = MODEL_COLUMN["weight"]
ACCURACY: Final = MODEL_COLUMN["accuracy"]
ACCURACY_STD: Final = MODEL_COLUMN["accuracy_std"]
TTFT_S: Final = MODEL_COLUMN["ttft_s"]
E2E_S: Final = MODEL_COLUMN["e2e_s"]
TPOT_S: Final = MODEL_COLUMN["tpot_s"]
COST_USD: Final = MODEL_COLUMN["cost_usd"]
IN_FLIGHT: Final = MODEL_COLUMN["in_flight"]
WAITING: Final = MODEL_COLUMN["waiting"]
SLOTS: Final = MODEL_COLUMN["slots"]
KV_USE: Final = MODEL_COLUMN["kv_use"]
ERROR_RATE: Final = MODEL_COLUMN["error_rate"]
REPLICAS: Final = MODEL_COLUMN["replicas"]
COLD: Final = MODEL_COLUMN["cold"]
AGE_S: Final = MODEL_COLUMN["age_s"]
PROMPT_TOKENS: Final = PROMPT_COLUMN["prompt_tokens"]
OUTPUT_TOKENS: Final = PROMPT_COLUMN["output_tokens"]
TURNS: Final = PROMPT_COLUMN["turns"]
CJK_SHARE: Final = PROMPT_COLUMN["cjk_share"]
ACCURACY_WEIGHT: Final = CALLER_COLUMN["accuracy_weight"]
LATENCY_WEIGHT: Final = CALLER_COLUMN["latency_weight"]
COST_WEIGHT: Final = CALLER_COLUMN["cost_weight"]
TARGET_S: Final = CALLER_COLUMN["target_s"]


@dataclass(frozen=True, slots=True)
class Observation:
    """One request as a policy sees it.

    Shapes: `rows` [M, F] with the columns of MODEL_FIELDS, `prompt` [P] of PROMPT_FIELDS,
    `caller` [C] of CALLER_FIELDS, `mask` [M], True where the model may be chosen.
    """

    models: tuple[str, ...]
    rows: F64
    prompt: F64
    caller: F64
    mask: Bools

    def column(self, name: str) -> F64:
        """[M] values of one model field. Raises KeyError for an unknown name."""
        column: F64 = self.rows[:, MODEL_COLUMN[name]]
        return column

    def prompt_field(self, name: str) -> float:
        """Value of one prompt field. Raises KeyError for an unknown name."""
        return float(self.prompt[PROMPT_COLUMN[name]])
