"""What replicas that are paid by the hour cost beyond the price of their tokens."""

from deployments.records.leases import NANO
from deployments.table.api import TableApi
from deployments.table.running import running_account


async def idle_costs(table: TableApi, window: str) -> list[dict[str, object]]:
    """One row for each model with a price by the hour: its replicas' bill of this window, and who pays it.

    `idle_usd` is below 0 where a model was busier than its price reckons with.
    """
    snapshot = await table.snapshot("", 0, 5.0)
    models = sorted(name for name, row in snapshot.models.items() if row.card.usd_per_hour > 0.0)
    used, running = [f"model:{name}" for name in models], [running_account(name) for name in models]
    spent = await table.spent([*used, *running], window)
    return [
        {
            "model": model,
            "requests": spent[by_token].requests,
            "tokens": spent[by_token].tokens,
            "running_usd": spent[by_hour].nano_usd / NANO,
            "cost_usd": spent[by_token].nano_usd / NANO,
            "idle_usd": (spent[by_hour].nano_usd - spent[by_token].nano_usd) / NANO,
        }
        for model, by_token, by_hour in zip(models, used, running, strict=True)
    ]
