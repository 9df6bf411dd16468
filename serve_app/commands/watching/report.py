"""Report what `auto` did for your traffic, against one model that would have answered everything.

From the decision log: quality (votes, else predictions), latency, cost, and the reward of each caller's own
weights. Latency of the model alone is at the load that it had; with all the traffic it would be longer.
"""

import asyncio
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from serve_app.console import options
from serve_app.console.errors import CommandError

if TYPE_CHECKING:
    from deployments.records.records import FeedbackRecord
    from deployments.table.api import Transition

DAY_S = 86_400.0


@click.command(help=__doc__)
@click.option("--against", "model", required=True, metavar="MODEL", help="the model that you would use alone")
@click.option("--days", type=click.FloatRange(min=0.0, min_open=True), default=7.0, show_default=True)
@click.option("--profile", help="requests of this profile only")
@click.option(
    "--target-s", type=click.FloatRange(min=0.0, min_open=True),
    help="latency target of requests that have none; by default the learner's",
)  # fmt: skip
@options.address
@options.as_json
def command(
    model: str, days: float, profile: str | None, target_s: float | None, address: str, as_json: bool
) -> None:
    """Read the log, estimate, print."""
    from serve_app.console.connection import connected

    with connected(address) as table:
        from deployments.learning.against import NothingToCompareError, against
        from deployments.learning.live_evidence import finished, votes_by_decision
        from deployments.learning.settings import LearnerSettings
        from serve_app.access.spending import read

        after_s = time.time() - days * DAY_S

        async def log() -> "tuple[list[Transition], list[FeedbackRecord]]":
            pairs = [pair async for pair in read(table, after_s)]
            return pairs, await table.feedback_records(after_s)

        pairs, feedback = asyncio.run(log())
    learner = LearnerSettings()
    votes = votes_by_decision(feedback, learner.feedback_metrics)
    wanted = [pair for pair in pairs if profile is None or pair[0].profile == profile]
    try:
        found = against(finished(wanted, votes, target_s or learner.target_s), votes, model)
    except NothingToCompareError as error:
        raise CommandError(str(error)) from error
    if as_json:
        print(json.dumps(asdict(found)))
        return
    from serve_app.console.text_table import print_table

    rows = [(row.figure, row.auto, row.model, row.difference, row.low, row.high) for row in found.rows]
    title = f"{found.requests} requests of {days:g} days, {found.voted} with votes"
    print_table(("a request", "auto", f"{model} alone", "difference", "from", "to (95 %)"), rows, title)
    print(f"'{model}' itself answered {found.of_them_by_it} of them.")
    if found.caution:
        print(found.caution)
