"""Print the static best mix: each model's share of the traffic that serves a demand at the best utility."""

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, Final

import click

from serve_app.console import options
from serve_app.console.errors import FAILED, CommandError

if TYPE_CHECKING:
    from policies.utility import Weights
    from serve_app.console.mix import PlannedModel

_WEIGHTS: Final = 3
_NUMBER: Final = r"[0-9.eE+-]+"
_MODEL: Final = re.compile(rf"(?P<id>[^=]+)=(?P<numbers>{_NUMBER}(,{_NUMBER}){{3}}(,{_NUMBER})?)")


@click.command(help=__doc__)
@click.option("--demand", type=float, required=True, help="requests/s to be served")
@click.option(
    "--model",
    "by_hand",
    multiple=True,
    metavar="ID=ACCURACY,LATENCY_S,COST_USD,CAPACITY_PER_S[,WEIGHT]",
    help="a model given by hand in place of the table; repeat for each",
)
@click.option(
    "--weights", default="1,1,0", show_default=True, metavar="ACCURACY,LATENCY,COST", help="trade-off"
)
@click.option("--budget", type=float, metavar="USD", help="mean cost per request at most")
@click.option("--prompt-tokens", type=float, default=200.0, show_default=True, help="typical prompt")
@options.address
@options.as_json
def command(
    demand: float,
    by_hand: tuple[str, ...],
    weights: str,
    budget: float | None,
    prompt_tokens: float,
    address: str,
    as_json: bool,
) -> int:
    """Plan and print; 1 where the demand does not fit."""
    if not demand > 0.0:
        raise CommandError(f"Demand {demand}: must be above 0 requests/s.")
    from serve_app.console.mix import plan_mix

    trade_off = _weights(weights)
    models = [_by_hand(text) for text in by_hand] or _from_table(address, prompt_tokens)
    try:
        result = plan_mix(models, demand, trade_off, budget)
    except ValueError as error:
        raise CommandError(str(error)) from error
    print(json.dumps(result, indent=2) if as_json else _text(result))
    return FAILED if result["unserved_per_s"] > 1e-6 * demand else 0


def _by_hand(text: str) -> "PlannedModel":
    from serve_app.console.mix import PlannedModel

    match = _MODEL.fullmatch(text)
    numbers = _numbers(match["numbers"]) if match else []
    if not match or not numbers or min(numbers) < 0.0:
        raise CommandError(f"Model '{text}': must be ID=ACCURACY,LATENCY_S,COST_USD,CAPACITY_PER_S[,WEIGHT].")
    return PlannedModel(match["id"], *numbers)


def _weights(text: str) -> "Weights":
    from policies.utility import Weights

    numbers = _numbers(text)
    if len(numbers) != _WEIGHTS or min(numbers) < 0.0 or sum(numbers) <= 0.0:
        raise CommandError(f"Weights '{text}': must be three numbers >= 0, one above 0, such as 2,1,0.")
    return Weights(*numbers)


def _numbers(text: str) -> list[float]:
    """The numbers between commas; none where one of them is no number."""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        return []


def _from_table(address: str, prompt_tokens: float) -> "list[PlannedModel]":
    """Measured accuracy, latency and cost, and the capacity of the replicas that are ready now."""
    from serve_app.console.connection import connected

    with connected(address) as table:
        from serve_app.console.mix import measured

        return measured(asyncio.run(table.snapshot("", 0, 0.0)), prompt_tokens)


def _text(result: dict[str, Any]) -> str:
    """A table for people."""
    from serve_app.console.text_table import table_text

    heads = ("model", "share", "per_s", "capacity_per_s", "utility", "accuracy", "latency_s", "cost_usd")
    rows = [[row[head] for head in heads] for row in result["models"]]
    return (
        f"{table_text(heads, rows)}\n\n"
        f"utility {result['utility']:.4g} and {result['cost_usd']:.3g} USD per request served; "
        f"{result['unserved_per_s']:.4g} of {result['demand_per_s']:.4g} requests/s find no room"
    )
