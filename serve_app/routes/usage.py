"""GET /v1/usage: what keys have used today and what is left of their budgets, over all ingress replicas."""

from collections.abc import Sequence
from typing import Final

from deployments.keys.key import Key
from deployments.records.leases import NANO
from deployments.table.api import TableApi
from deployments.table.errors import StorageUnavailableError, TableError
from serve_app.http.errors import unavailable
from serve_app.http.request import Request, Send, send_json
from serve_app.routes.endpoint import Endpoint

_DAY: Final = "1d"


class UsageApi:
    """The route: a key sees itself, one with the role `admin` sees all."""

    def __init__(self, endpoint: Endpoint, table: TableApi) -> None:
        self._endpoint, self._table = endpoint, table

    async def get(self, request: Request, send: Send) -> None:
        """Raises ApiError (401, 403, 503)."""
        key = self._endpoint.authorize(request, "infer", "read", "admin")
        keys = self._endpoint.keys.keys if "admin" in key.roles else (key,)
        try:
            data = await self._rows(keys)
        except (StorageUnavailableError, TableError):
            message = "What keys have used cannot be read now; ask again."
            raise unavailable(message, "storage_unavailable") from None
        await send_json(send, {"object": "list", "data": data})

    async def _rows(self, keys: Sequence[Key]) -> list[dict[str, object]]:
        windows = {_DAY, *(key.limits.dollars.window for key in keys if key.limits.dollars)}
        accounts = [f"key:{key.key_id}" for key in keys]
        spent = {window: await self._table.spent(accounts, window) for window in sorted(windows)}
        rows = []
        for key, account in zip(keys, accounts, strict=True):
            today, budget = spent[_DAY][account], key.limits.dollars
            row: dict[str, object] = {
                "key": key.name,
                "key_id": key.key_id,
                "team": key.team,
                "requests": today.requests,
                "tokens": today.tokens,
                "spent_usd": today.nano_usd / NANO,
                "budget": None,
            }
            if budget is not None:
                used = spent[budget.window][account].nano_usd
                left_usd = max(0, budget.nano_usd - used) / NANO
                row["budget"] = {**budget.model_dump(), "spent_usd": used / NANO, "left_usd": left_usd}
            rows.append(row)
        return rows
