"""Compiled code holds its own copies of constants, because its cache sees no other file: they must agree."""

from types import ModuleType

import pytest

from deployments.dispatch import columns
from policies import formula_kernel
from policies.latency import model as latency_model
from policies.learned import features as network_features
from policies.learned import kernel as network_kernel
from policies.observation import CALLER_COLUMN, MODEL_COLUMN, PROMPT_COLUMN
from policies.prompt.hashed_ngrams import HASH_BITS, MAX_COUNT
from policies.prompt.style import STYLE_SIZE
from policies.quality import kernel as quality_kernel
from policies.reward import NO_TARGET_S

COLUMNS = {
    "_WEIGHT": MODEL_COLUMN["weight"], "_ACCURACY": MODEL_COLUMN["accuracy"],
    "_STD": MODEL_COLUMN["accuracy_std"], "_TTFT": MODEL_COLUMN["ttft_s"], "_E2E": MODEL_COLUMN["e2e_s"],
    "_TPOT": MODEL_COLUMN["tpot_s"], "_COST": MODEL_COLUMN["cost_usd"],
    "_IN_FLIGHT": MODEL_COLUMN["in_flight"], "_WAITING": MODEL_COLUMN["waiting"],
    "_SLOTS": MODEL_COLUMN["slots"], "_KV_USE": MODEL_COLUMN["kv_use"],
    "_ERROR_RATE": MODEL_COLUMN["error_rate"], "_REPLICAS": MODEL_COLUMN["replicas"],
    "_COLD": MODEL_COLUMN["cold"], "_AGE": MODEL_COLUMN["age_s"],
    "_PROMPT_TOKENS": PROMPT_COLUMN["prompt_tokens"], "_OUTPUT_TOKENS": PROMPT_COLUMN["output_tokens"],
    "_TURNS": PROMPT_COLUMN["turns"], "_FIRST_SHARE": PROMPT_COLUMN["cjk_share"],
    "_FIELDS": len(PROMPT_COLUMN), "_A1": CALLER_COLUMN["accuracy_weight"],
    "_A2": CALLER_COLUMN["latency_weight"], "_A3": CALLER_COLUMN["cost_weight"],
    "_TARGET": CALLER_COLUMN["target_s"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "least"),
    [(formula_kernel, 4), (network_features, 22), (network_kernel, 1), (columns, 9)],
)
def test_columns_are_those_of_the_observation(module: ModuleType, least: int) -> None:
    own = {name: value for name, value in vars(module).items() if name in COLUMNS}
    assert len(own) >= least
    assert own == {name: COLUMNS[name] for name in own}


def test_other_constants_are_those_of_their_owners() -> None:
    latency = latency_model
    assert PROMPT_COLUMN["prompt_tokens"] == latency._TOKENS
    assert [COLUMNS["_TURNS"], COLUMNS["_FIRST_SHARE"]] == [latency._TURNS, latency._FIRST_SHARE]
    assert len(PROMPT_COLUMN) == latency._FIELDS
    assert latency._STYLE + STYLE_SIZE == latency.LENGTH_INPUTS
    assert NO_TARGET_S == network_features._NO_TARGET_S
    assert quality_kernel._COUNT == MAX_COUNT
    assert MAX_COUNT + 1 == 1 << quality_kernel._COUNT_BITS
    assert quality_kernel._COUNT_BITS + HASH_BITS == quality_kernel._WORD_SHIFT
