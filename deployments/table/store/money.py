"""Spending and leases in the store: charged with the outcomes, in their transaction; granted in another."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Row,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from deployments.records.leases import NANO, Ask, Grant, Resource, Spent, accounts_of
from deployments.records.records import OutcomeRecord
from deployments.records.windows import HOUR_S, LONGEST_S, MINUTE_S, bounds, grain_s
from deployments.table.store import ledger, schema
from deployments.table.store.ledger import CHUNK

KEPT_S: Final = {MINUTE_S: 2 * HOUR_S, HOUR_S: LONGEST_S}
LEASE_KEPT_S: Final = 86_400.0  # without renewal

_Slot = tuple[str, int, int]  # account, span, start
_SPENDING: Final = ("account", "span_s", "start_s", "requests", "tokens", "nano_usd")
_LEFT: Final = schema.leases.c.amount - bindparam("taken")
_TAKING: Final = (
    update(schema.leases)
    .where(schema.leases.c.holder == bindparam("by"), schema.leases.c.account == bindparam("of"))
    .where(schema.leases.c.resource == Resource.USD.value)
    .values(amount=case((_LEFT > 0, _LEFT), else_=0), charged=schema.leases.c.charged + bindparam("taken"))
)


@dataclass(frozen=True, slots=True)
class Charge:
    """What one outcome adds to each of its accounts."""

    accounts: tuple[str, ...]
    at_s: float
    spent: Spent
    leased: int = 0  # of its nano-dollars: what the ingress itself knows of


def charge_of(record: OutcomeRecord, reported: OutcomeRecord) -> Charge:
    """The charge for a new outcome, which its engine may have completed since it was reported."""
    return Charge(_accounts(record), record.finished_s, _spent(record), _nano_usd(reported))


def change_of(old: OutcomeRecord, new: OutcomeRecord) -> Charge:
    """The charge that is missing where an outcome was completed later."""
    before, after = _spent(old), _spent(new)
    spent = Spent(0, after.tokens - before.tokens, after.nano_usd - before.nano_usd)
    return Charge(_accounts(new), new.finished_s, spent)


def _accounts(record: OutcomeRecord) -> tuple[str, ...]:
    return (*record.accounts, f"model:{record.model}")


def _spent(record: OutcomeRecord) -> Spent:
    outcome = record.outcome
    return Spent(1, outcome.prompt_tokens + outcome.output_tokens, _nano_usd(record))


def _nano_usd(record: OutcomeRecord) -> int:
    return round(record.outcome.cost_usd * NANO)


def charge(connection: Connection, holder: str, charges: Iterable[Charge]) -> None:
    """Add to what accounts have spent, and take it off the leases under which `holder` admitted it."""
    sums: dict[_Slot, list[int]] = defaultdict(lambda: [0, 0, 0])
    by_account: dict[str, int] = defaultdict(int)
    for one in charges:
        spent = one.spent
        for account in one.accounts:
            by_account[account] += one.leased
            for span_s in KEPT_S:
                found = sums[account, span_s, int(one.at_s // span_s) * span_s]
                found[0] += spent.requests
                found[1] += spent.tokens
                found[2] += spent.nano_usd
    if not sums:
        return
    rows = [dict(zip(_SPENDING, (*slot, *values), strict=True)) for slot, values in sorted(sums.items())]
    connection.execute(_adding(connection.dialect.name), rows)
    taken = [
        {"by": holder, "of": account, "taken": nano_usd} for account, nano_usd in sorted(by_account.items())
    ]
    connection.execute(_TAKING, taken)


@cache
def _adding(dialect: str) -> Executable:
    """Adds a row of `spending` to the one of the same slot, or makes it: one statement for all rows."""
    table, is_sqlite = schema.spending, dialect == sqlite.dialect.name
    made: sqlite.Insert | postgresql.Insert = (sqlite if is_sqlite else postgresql).insert(table)
    summed = {name: table.c[name] + made.excluded[name] for name in _SPENDING[3:]}
    return made.on_conflict_do_update(index_elements=_SPENDING[:3], set_=summed)


def spent(connection: Connection, accounts: Sequence[str], window: str, now_s: float) -> dict[str, Spent]:
    """What accounts have used in the window that `now_s` is in."""
    table, span_s, (start_s, _) = schema.spending.c, grain_s(window), bounds(window, now_s)
    found = {account: Spent() for account in accounts}
    for first in range(0, len(accounts), CHUNK):
        query = (
            select(table.account, *(func.sum(table[n]) for n in ("requests", "tokens", "nano_usd")))
            .where(table.account.in_(accounts[first : first + CHUNK]))
            .where(table.span_s == span_s, table.start_s >= start_s)
            .group_by(table.account)
        )
        for account, *sums in connection.execute(query):
            found[account] = Spent(*(int(value) for value in sums))
    return found


class Granting:
    """One answer to the asks of one holder. Leases not renewed since `expired_s` count no more."""

    def __init__(self, connection: Connection, holder: str, now_s: float, expired_s: float) -> None:
        self._connection, self._holder, self._now_s, self._expired_s = connection, holder, now_s, expired_s
        self._own: dict[tuple[str, str], Row[Any]] = {}
        self._others: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)

    def answer(self, asks: Sequence[Ask]) -> list[Grant]:
        """Grant what is left, never more than the limit over all holders, but for what is used already."""
        self._read_leases(sorted({ask.account for ask in asks}))
        grants = [self._grant(ask, used) for ask, used in zip(asks, self._used(asks), strict=True)]
        self._write(asks, grants)
        return grants

    def _read_leases(self, accounts: Sequence[str]) -> None:
        table = schema.leases
        for first in range(0, len(accounts), CHUNK):
            query = select(table).where(table.c.account.in_(accounts[first : first + CHUNK]))
            for row in self._connection.execute(query):
                name = (row.account, row.resource)
                if row.holder == self._holder:
                    self._own[name] = row
                elif row.renewed_s >= self._expired_s:
                    self._others[name][row.holder] = row.amount

    def _used(self, asks: Sequence[Ask]) -> list[float]:
        """How much of each limit is used."""
        by_window: dict[str, list[str]] = defaultdict(list)
        for ask in asks:
            if ask.window:
                by_window[ask.window].append(ask.account)
        found = {
            window: spent(self._connection, accounts, window, self._now_s)
            for window, accounts in by_window.items()
        }
        return [
            float(found[ask.window][ask.account].nano_usd)
            if ask.window
            else self._used_of_rate(ask)
            if ask.resource.is_rate
            else 0.0
            for ask in asks
        ]

    def _used_of_rate(self, ask: Ask) -> float:
        """What of a rate is used, leases of others included; all of it comes back with time."""
        own = self._own.get((ask.account, ask.resource.value))
        row = self._connection.execute(select(schema.rates).where(*_same_rate(ask))).first()
        used = 0.0
        if row is not None:
            used = max(0.0, row.used - max(0.0, self._now_s - row.updated_s) * ask.per_s)
        return max(0.0, used - (0 if own is None else own.amount) + ask.settled - self._charged(ask))

    def _write_rate(self, ask: Ask, used: float) -> None:
        values = {"used": used, "updated_s": self._now_s}
        if (
            self._connection.execute(update(schema.rates).where(*_same_rate(ask)).values(values)).rowcount
            == 0
        ):
            name = {"account": ask.account, "resource": ask.resource.value}
            self._connection.execute(insert(schema.rates).values({**name, **values}))

    def _charged(self, ask: Ask) -> int:
        own = self._own.get((ask.account, ask.resource.value))
        return 0 if own is None else int(own.charged)

    def _grant(self, ask: Ask, used: float) -> Grant:
        charged = ask.settled if ask.resource is not Resource.USD else self._charged(ask)
        least = ask.reserved + max(0, ask.settled - charged)
        others = self._held_by_others(ask)
        available = math.floor(ask.limit - used) - (0 if ask.resource.is_rate else others)
        amount = max(least, min(least + ask.want, available))
        if ask.resource.is_rate:
            self._write_rate(ask, used + amount)
        return Grant(amount, charged, max(0, available - amount), others, math.ceil(used))

    def _held_by_others(self, ask: Ask) -> int:
        """What other holders have, but for what was taken for the same requests before they were repeated."""
        held = self._others[ask.account, ask.resource.value]
        if not held or not ask.requests or ask.resource.is_rate:
            return sum(held.values())
        part = ask.want // len(ask.requests)
        for decision in ledger.open_tries(self._connection, ask.requests):
            accounts = accounts_of(decision.key_id, decision.team, decision.profile)
            if decision.ingress in held and ask.account in accounts:
                held[decision.ingress] -= min(held[decision.ingress], part)
        return sum(held.values())

    def _write(self, asks: Sequence[Ask], grants: Sequence[Grant]) -> None:
        table = schema.leases
        for ask, grant in zip(asks, grants, strict=True):
            values = {"amount": grant.amount, "charged": grant.charged, "renewed_s": self._now_s}
            name = {"holder": self._holder, "account": ask.account, "resource": ask.resource.value}
            if (ask.account, ask.resource.value) in self._own:
                same = (table.c[column] == value for column, value in name.items())
                self._connection.execute(update(table).where(*same).values(values))
            else:
                self._connection.execute(insert(table).values({**name, **values}))


def _same_rate(ask: Ask) -> tuple[ColumnElement[bool], ...]:
    table = schema.rates.c
    return table.account == ask.account, table.resource == ask.resource.value


def prune_money(connection: Connection, now_s: float) -> None:
    """Delete what no window can reach any more, and leases of holders that are long gone."""
    spending, leases = schema.spending.c, schema.leases.c
    for span_s, kept_s in KEPT_S.items():
        old = delete(schema.spending).where(spending.span_s == span_s, spending.start_s < now_s - kept_s)
        connection.execute(old)
    connection.execute(delete(schema.leases).where(leases.renewed_s < now_s - LEASE_KEPT_S))
