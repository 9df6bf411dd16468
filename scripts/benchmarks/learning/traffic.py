"""Users of the endpoint who know the right answers: they ask, grade what comes back, vote, compare."""

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from tqdm import tqdm

from deployments.learning.live_evidence import normalised_reward
from deployments.suites.graders import grade
from deployments.suites.item import Item
from deployments.suites.suite import parse_item
from policies.profile import AUTO, auto_name
from scripts.models.item import Item as Generated

_TIMEOUT = aiohttp.ClientTimeout(total=120.0)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request and what came of it. `utility` in [0, 1] by the profile's own weights; 0 when it failed."""

    at_s: float
    item: str
    profile: str
    way: str  # the model that was asked for, `auto` for any profile
    model: str
    policy: str
    score: float
    e2e_s: float
    utility: float
    failed: bool
    task: str = ""
    decision_id: str = ""


def callers(config: Path) -> dict[str, tuple[float, ...]]:
    """CALLER_FIELDS of each profile in a Serve config."""
    document = yaml.safe_load(config.read_text())
    ingress = next(app for app in document["applications"] if app["name"] == "fastserve")
    settings = next(d for d in ingress["deployments"] if d["name"] == "Ingress")["user_config"]
    profiles = settings["dispatch"]["profiles"]
    return {
        name: (*(float(p["weights"][w]) for w in ("accuracy", "latency", "cost")), float(p["target_s"]))
        for name, p in profiles.items()
    }


class User:
    """Sends generated items. `callers` [C] of CALLER_FIELDS by profile judge the answers."""

    def __init__(
        self, url: str, key: str, callers: Mapping[str, tuple[float, ...]], started_s: float
    ) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self.callers = callers
        self._started_s = started_s
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(limit=0))

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def ask(self, generated: Generated, model: str | None = None, vote: bool = True) -> Asked:
        """One item to `auto:<profile>`, or to a model by name; a vote follows an `auto` answer."""
        item = parse_item(json.loads(generated.to_json()))
        way = model or auto_name(item.profile)
        body = {
            "model": way,
            "messages": list(item.messages),
            "max_tokens": item.max_tokens,
            "temperature": 0,
        }
        started_s = time.perf_counter()
        async with self._session.post(
            f"{self._url}/v1/chat/completions", json=body, headers=self._headers
        ) as response:
            answer = await response.json()
            e2e_s = time.perf_counter() - started_s
            headers = response.headers
            if response.status != 200:
                return self._asked(item, model, "", headers, 0.0, e2e_s, True)
        text = answer["choices"][0]["message"]["content"] or ""
        score = grade(item, text).score
        if vote and model is None:
            await self._vote(headers["x-fastserve-decision-id"], score)
        return self._asked(item, model, answer["model"], headers, score, e2e_s, False)

    async def _vote(self, decision_id: str, score: float) -> None:
        vote: dict[str, Any] = {"decision_id": decision_id, "metric": "quality", "score": score}
        url = f"{self._url}/v1/feedback"
        async with self._session.post(url, json=vote, headers=self._headers) as response:
            if response.status != 200:
                raise RuntimeError(f"Feedback: {response.status} {(await response.text())[:200]}")

    def _asked(
        self,
        item: Item,
        model: str | None,
        answered: str,
        headers: Mapping[str, str],
        score: float,
        e2e_s: float,
        failed: bool,
    ) -> Asked:
        caller = self.callers[item.profile]
        earned = 0.0 if failed else normalised_reward(score, e2e_s, 0.0, caller, 0.0, caller[3])
        at_s = time.time() - self._started_s
        return Asked(
            at_s=at_s,
            item=item.id,
            profile=item.profile,
            way=model or AUTO,
            model=answered,
            policy=headers.get("x-fastserve-policy", ""),
            score=score,
            e2e_s=e2e_s,
            utility=earned,
            failed=failed,
            task=item.task,
            decision_id=headers.get("x-fastserve-decision-id", ""),
        )


async def compared(
    user: User, items: Sequence[Generated], models: Sequence[str], seed: int, deadline_s: float
) -> list[list[Asked]]:
    """[items][ways]: `auto` first, then every model by name; asked in random order, one after the other.

    Stops at `deadline_s` on the monotonic clock.
    """
    order = random.Random(seed)
    ways: list[str | None] = [None, *models]
    table = []
    for item in tqdm(items, desc="compared", unit="item"):
        if time.monotonic() > deadline_s:
            break
        answers: dict[str | None, Asked] = {}
        for way in order.sample(ways, len(ways)):
            answers[way] = await user.ask(item, way, vote=False)
        table.append([answers[way] for way in ways])
    return table
