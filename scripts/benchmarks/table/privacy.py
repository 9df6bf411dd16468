"""What a thief of the store learns of prompts: entities rebuilt, and who sent what.

The thief has the code, the database, and an API key of their own with which to send prompts; not the key file
with which records are sealed. Three random entities stand in each prompt. Decisions are made by the real
dispatcher and written by the real table; the attacks read the database file. Beside it, as the proof that the
attacks work, the same attacks on the same records without the seal.
"""

import argparse
import asyncio
import random
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from tqdm import tqdm

from deployments.dispatch.request import DispatchRequest, Prompt
from deployments.records.records import DecisionRecord
from deployments.table.store.store import Store
from deployments.table.table import Table
from policies.prompt.features import extract, unpack
from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.serving.decision import PoolView, made_dispatcher, made_quality
from scripts.benchmarks.table.ngram_attack import Rebuilder
from serve_app.console.text_table import print_table

_CONTROLS: Final = 40  # prompts that are rebuilt without the seal: a second each
_VICTIM, _THIEF = "victim", "thief"
_decode = msgspec.msgpack.Decoder(DecisionRecord).decode
_WORDS: Final = (
    *(
        "please",
        "help",
        "me",
        "write",
        "a",
        "short",
        "letter",
        "to",
        "my",
        "landlord",
        "about",
        "the",
        "broken",
    ),
    *("heating", "flat", "since", "last", "monday", "what", "should", "i", "know", "before", "asking", "for"),
    *("refund", "of", "parcel", "that", "never", "came", "explain", "steps", "and", "keep", "it", "polite"),
    *(
        "summarise",
        "this",
        "meeting",
        "with",
        "three",
        "points",
        "list",
        "open",
        "questions",
        "manager",
        "in",
    ),
)


@dataclass(frozen=True, slots=True)
class Secret:
    """A prompt, and the entities that somebody would like to read."""

    text: str
    entities: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--prompts", type=int, default=1_000, help="prompts of the victim")
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> Report:
    """Plant, steal, attack."""
    rng = random.Random(args.seed)
    members = [_secret(rng) for _ in range(args.prompts)]
    others = [_secret(rng) for _ in range(args.prompts)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite3"
        records = asyncio.run(_serve(path, members, others, args))
        stolen = _steal(path, _VICTIM)
        own = _steal(path, _THIEF)
    plain = [msgspec.msgpack.encode(record) for record in records]
    rebuilder = Rebuilder()
    sealed_recovered = _recovered(rebuilder, members, stolen)
    control_recovered = _recovered(rebuilder, members[:_CONTROLS], plain[:_CONTROLS])
    scores = _sightings(own, stolen)
    auc = _auc(scores[: len(members)], scores[len(members) :])
    sealed_auc = max(auc, 1.0 - auc)  # a test that is wrong more often than not is right the other way round
    control_auc = _auc(_matches(members, plain), _matches(others, plain))
    rows = [
        ("entities rebuilt", control_recovered, sealed_recovered),
        ("membership, AUC", control_auc, sealed_auc),
    ]
    print_table(("attack", "without the seal", "as stored"), rows)
    bars = (
        bar("privacy.entities_recovered", sealed_recovered, "<=", 0.01),
        bar("privacy.membership_auc", sealed_auc, "<=", 0.55, _auc_spread(len(members))),
        bar("privacy.control_entities_recovered", control_recovered, ">=", 0.8),
        bar("privacy.control_membership_auc", control_auc, ">=", 0.95),
    )
    sizes = Counter(len(record) for _, record in stolen)
    return Report("privacy", bars, {"prompts": len(members), "sealed bytes": dict(sorted(sizes.items()))})


def _secret(rng: random.Random) -> Secret:
    """Some words about nothing, with a name, a number and an invented illness among them."""
    name = f"{_invented(rng, 2)} {_invented(rng, 3)}"
    entities = (name, str(rng.randrange(10**7, 10**8)), _invented(rng, 4))
    words = [rng.choice(_WORDS) for _ in range(rng.randrange(10, 40))]
    for entity in entities:
        words.insert(rng.randrange(len(words) + 1), entity)
    return Secret(" ".join(words), entities)


def _invented(rng: random.Random, syllables: int) -> str:
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(syllables))


async def _serve(
    path: Path, members: Sequence[Secret], others: Sequence[Secret], args: argparse.Namespace
) -> list[DecisionRecord]:
    """Dispatch the victim's prompts, and every candidate once more with the thief's key."""
    view = PoolView(args.models, "formula")
    quality = made_quality(args.models, [extract(secret.text) for secret in others[:200]], args.seed)
    dispatcher = made_dispatcher(view, quality)
    table = Table(Store(f"sqlite:///{path}"))
    requests = _requests(members, others, random.Random(args.seed))
    records: list[DecisionRecord] = []
    try:
        for i, request in enumerate(tqdm(requests, unit="decision")):
            if i % 50 == 0:
                view.next_snapshot()
            records.append(dispatcher.dispatch(request).record)
        for start in range(0, len(records), 100):
            await table.report_ingress("ingress", start + 1, {}, records[start : start + 100], [])
    finally:
        await table.close()
    return records[: len(members)]


def _requests(
    members: Sequence[Secret], others: Sequence[Secret], rng: random.Random
) -> list[DispatchRequest]:
    """The victim's, then the thief's of all candidates in random order: load must not tell them apart."""
    victim = [
        DispatchRequest(f"v-{i:06d}", "auto", Prompt(one.text), key_id=_VICTIM)
        for i, one in enumerate(members)
    ]
    thief = [
        DispatchRequest(f"t-{i:06d}", "auto", Prompt(one.text), key_id=_THIEF)
        for i, one in enumerate((*members, *others))
    ]
    rng.shuffle(thief)
    return victim + thief


def _steal(path: Path, key: str) -> list[tuple[str, bytes]]:
    """(model, record) of each decision of a key, as they lie in the database."""
    with sqlite3.connect(path) as database:
        query = "SELECT model, record FROM decisions WHERE key_id = ? ORDER BY decision_id"
        return [(str(model), bytes(record)) for model, record in database.execute(query, (key,))]


def _recovered(rebuilder: Rebuilder, secrets: Sequence[Secret], records: Sequence[object]) -> float:
    """Share of the entities that stand in a text rebuilt from a record, or in its bytes."""
    found = 0
    for secret, record in zip(secrets, tqdm(records, unit="record"), strict=True):
        data = record[1] if isinstance(record, tuple) else record
        assert isinstance(data, bytes)
        texts = _texts(rebuilder, data)
        found += sum(any(entity in text for text in texts) for entity in secret.entities)
    return found / (3 * len(secrets))


def _texts(rebuilder: Rebuilder, data: bytes) -> set[str]:
    """All that can be read from a record: its bytes as text, and what its n-grams allow."""
    texts = {data.decode("latin-1").lower()}
    try:
        features = unpack(_decode(data).features)
    except (msgspec.MsgspecError, ValueError):
        return texts
    return texts | rebuilder.pieces(features)


def _matches(candidates: Sequence[Secret], plain: Sequence[bytes]) -> list[float]:
    """1 where a candidate's n-grams are exactly those of a record."""
    known = {unpack(_decode(record).features).grams.tobytes() for record in plain}
    return [float(extract(secret.text).grams.tobytes() in known) for secret in candidates]


def _sightings(own: Sequence[tuple[str, bytes]], stolen: Sequence[tuple[str, bytes]]) -> list[float]:
    """How often the victim has a record with the model and the length that the thief got for a candidate.

    Equal bytes would settle it; else the rarer the pair, the more one sighting says.
    """
    bodies = {record for _, record in stolen}
    seen = Counter((model, len(record)) for model, record in stolen)
    own_seen = Counter((model, len(record)) for model, record in own)
    return [
        float("inf") if record in bodies else seen[model, len(record)] / own_seen[model, len(record)]
        for model, record in own
    ]


def _auc(inside: Sequence[float], outside: Sequence[float]) -> float:
    """Chance that a member scores above a stranger, ties counted half (Mann and Whitney 1947)."""
    a, b = np.asarray(inside), np.sort(outside)
    below, upto = np.searchsorted(b, a, side="left"), np.searchsorted(b, a, side="right")
    return float((below + upto).mean() / (2 * len(b)))


def _auc_spread(count: int) -> float:
    """Half-width of the 95 % interval of an AUC of 0.5 with as many members as strangers."""
    return float(1.96 * np.sqrt((2 * count + 1) / (12 * count * count)))
