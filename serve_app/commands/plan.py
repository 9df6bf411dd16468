"""Print the static best mix: the share of traffic per model that serves a demand at the best utility."""

import argparse
import asyncio
import json
import logging
import re
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from deployments.records.snapshot import Snapshot
from policies.baselines.static_mix import best_mix
from policies.utility import Weights, utility
from serve_app.console.connection import CommandError

_WEIGHTS: Final = 3
_NUMBER: Final = r"[0-9.eE+-]+"
_MODEL: Final = re.compile(rf"(?P<id>[^=]+)=(?P<numbers>{_NUMBER}(,{_NUMBER}){{3}}(,{_NUMBER})?)")


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """What the mix needs of one model: mean score, end-to-end latency, cost per request, requests/s, w_i."""

    model: str
    accuracy: float
    latency_s: float
    cost_usd: float
    capacity_per_s: float
    weight: float = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--demand", type=float, required=True, help="requests/s to be served")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="ID=ACCURACY,LATENCY_S,COST_USD,CAPACITY_PER_S[,WEIGHT]",
        help="a model by hand instead of the table's; repeat for each",
    )
    parser.add_argument(
        "--weights", default="1,1,0", metavar="ACCURACY,LATENCY,COST", help="trade-off (default 1,1,0)"
    )
    parser.add_argument("--budget", type=float, metavar="USD", help="mean cost per request at most")
    parser.add_argument("--prompt-tokens", type=float, default=200.0, help="typical prompt (default 200)")
    parser.add_argument("--address", default="auto", help="Ray cluster whose table is read")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Plan and print; 1 where the demand does not fit."""
    if not args.demand > 0.0:
        raise CommandError(f"Demand {args.demand}: must be above 0 requests/s.")
    models = [_by_hand(text) for text in args.model] or _from_table(args.address, args.prompt_tokens)
    try:
        result = plan(models, args.demand, _weights(args.weights), args.budget)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 1 if result["unserved_per_s"] > 1e-6 * args.demand else 0


def plan(
    models: list[PlannedModel], demand_per_s: float, weights: Weights, budget_usd: float | None = None
) -> dict[str, Any]:
    """The mix as JSON-able numbers. Raises ValueError for models without a usable number."""
    if not models:
        raise ValueError("No model to plan with: the table has none. Give some with --model.")
    accuracy, latency_s, cost_usd, capacity_per_s, weight = np.array(
        [(m.accuracy, m.latency_s, m.cost_usd, m.capacity_per_s, m.weight) for m in models]
    ).T
    value = utility(accuracy, latency_s, cost_usd, weights, np.ones(len(models), dtype=bool))
    mix = best_mix(
        value,
        cost_usd,
        budget_usd=budget_usd,
        capacity_per_s=capacity_per_s,
        demand_per_s=demand_per_s,
        weight=weight,
    )
    rows = [
        asdict(m) | {"utility": float(u), "share": float(x), "per_s": float(x) * demand_per_s}
        for m, u, x in zip(models, value, mix.shares, strict=True)
    ]
    return {
        "demand_per_s": demand_per_s,
        "unserved_per_s": mix.unserved * demand_per_s,
        "utility": mix.value,
        "cost_usd": mix.cost_usd,
        "models": rows,
    }


def _by_hand(text: str) -> PlannedModel:
    match = _MODEL.fullmatch(text)
    try:
        numbers = [float(number) for number in match["numbers"].split(",")] if match else []
    except ValueError:
        numbers = []
    if not match or not numbers or min(numbers) < 0.0:
        raise CommandError(f"Model '{text}': must be ID=ACCURACY,LATENCY_S,COST_USD,CAPACITY_PER_S[,WEIGHT].")
    return PlannedModel(match["id"], *numbers)


def _weights(text: str) -> Weights:
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != _WEIGHTS or min(numbers) < 0.0 or sum(numbers) <= 0.0:
        raise CommandError(f"Weights '{text}': must be three numbers >= 0, one above 0, such as 2,1,0.")
    return Weights(*numbers)


def _from_table(address: str, prompt_tokens: float) -> list[PlannedModel]:
    """Measured accuracy, latency and cost, and the capacity of the replicas that are ready now."""
    import ray

    from deployments.table.actor import NAME, NAMESPACE, RayTable, TableError

    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        snapshot = asyncio.run(RayTable(ray.get_actor(NAME, NAMESPACE)).snapshot("", 0, 0.0))
    except (ConnectionError, ValueError, TableError) as error:
        raise CommandError(f"No performance table to read ({error}). Give models with --model.") from error
    finally:
        ray.shutdown()
    return measured(snapshot, prompt_tokens)


def measured(snapshot: Snapshot, prompt_tokens: float) -> list[PlannedModel]:
    """The models of a snapshot, for a typical prompt without other load."""
    from deployments.dispatch.columns import Observer
    from policies.latency.model import LatencyModel
    from policies.observation import MODEL_COLUMN, PROMPT_COLUMN, PROMPT_FIELDS
    from policies.prompt.style import STYLE_SIZE

    columns = Observer().columns(snapshot, 0.0, LatencyModel())
    prompt = np.zeros(len(PROMPT_FIELDS))
    prompt[PROMPT_COLUMN["prompt_tokens"]] = prompt_tokens
    m = len(columns.models)
    predicted = columns.latency.predict(prompt, np.zeros(STYLE_SIZE, dtype=np.float32), np.zeros(m), None)
    cost_usd = prompt_tokens * columns.prompt_usd + predicted.output_tokens * columns.completion_usd
    return [
        PlannedModel(
            model,
            float(columns.rows[i, MODEL_COLUMN["accuracy"]]),
            float(predicted.e2e_s[i]),
            float(cost_usd[i]),
            float(columns.latency.capacity_per_s[i]),
            float(columns.rows[i, MODEL_COLUMN["weight"]]),
        )
        for i, model in enumerate(columns.models)
    ]


def _print(result: dict[str, Any]) -> None:
    """A table for people."""
    heads = ("model", "share", "per_s", "capacity_per_s", "utility", "accuracy", "latency_s", "cost_usd")
    width = max(len("model"), *(len(row["model"]) for row in result["models"]))
    print("  ".join([heads[0].ljust(width), *(head.rjust(14) for head in heads[1:])]))
    for row in result["models"]:
        cells = [f"{row[head]:.4g}".rjust(14) for head in heads[1:]]
        print("  ".join([row["model"].ljust(width), *cells]))
    print(
        f"\nutility {result['utility']:.4g} and {result['cost_usd']:.3g} USD per request served; "
        f"{result['unserved_per_s']:.4g} of {result['demand_per_s']:.4g} requests/s find no room"
    )
