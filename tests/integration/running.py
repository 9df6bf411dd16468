"""A running cluster as tests meet it: its config, how to reach, change and hurt it, and loads of callers."""

import contextlib
import copy
import json
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from deployments import sse
from deployments.dispatch.columns import is_usable
from deployments.records.snapshot import Snapshot
from deployments.table.publisher import decode_snapshot
from policies.profile import is_auto
from policies.promotion.rollout import RolloutState
from serve_app.console.local_pool import LocalPool
from tests.model_parts import parted

KEY = "fs-integration-key-0123456789"
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0  # how long a test waits for what must come: a busy machine fails nothing that works
EXPORT_S = 1.0  # between two exports of metrics; Ray's own is ten seconds

FAST_MODEL = {"decode_step_s": 0.004, "decode_step_per_sequence_s": 0.0001, "mean_output_tokens": 16}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def model_app(name: str, replicas: int = 1, **args: Any) -> dict[str, Any]:
    """A Serve app of one simulated model."""
    simulated = FAST_MODEL | args.pop("simulated", {})
    capabilities = ["chat", "tools", "json", "embeddings"]
    arguments, live = parted({"capabilities": capabilities, "drain_s": 5.0, **args})
    return {
        "name": f"model-{name}",
        "route_prefix": None,
        "import_path": "serve_app.app:build_model",
        "args": {
            "id": name,
            "engine": "simulated",
            "num_cpus": 0.05,
            "context_tokens": 4096,
            "simulated": simulated,
            **arguments,
        },
        "deployments": [{"name": "Model", "num_replicas": replicas, "user_config": live}],
    }


def document(port: int, models: list[dict[str, Any]], ingresses: int = 2) -> dict[str, Any]:
    """A Serve config with the endpoint as cluster.yaml has it, and these models."""
    made: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    ingress = copy.deepcopy(next(app for app in made["applications"] if app["name"] == "fastserve"))
    ingress["args"] = {"num_cpus": 0.1, "drain_s": 5.0, "body_s": 3.0, "body_bytes": 2 * 1024 * 1024}
    ingress["deployments"] = [entry for entry in ingress["deployments"] if entry["name"] == "Ingress"]
    ingress["deployments"][0]["num_replicas"] = ingresses
    made["http_options"]["port"] = port
    switches = made["controller_options"]["runtime_env"]["env_vars"]
    dashboard = next(app for app in made["applications"] if app["name"] == "dashboard")
    switches["FASTSERVE_REQUEST_S"] = "3"
    made["applications"] = [ingress, dashboard, *models]
    return made


def with_app(base: dict[str, Any], name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The config with one more app: `Evaluator` or `Learner`, under these settings."""
    changed = copy.deepcopy(base)
    changed["applications"].append(
        {
            "name": name.lower(),
            "route_prefix": None,
            "import_path": f"serve_app.app:{name.lower()}",
            "args": {"num_cpus": 0.05},
            "deployments": [{"name": name, "user_config": settings}],
        }
    )
    return changed


@dataclass
class Cluster:
    """The running pool, and how to change or hurt it."""

    pool: LocalPool
    url: str
    base: dict[str, Any]  # the config that tests find and leave behind

    def client(self, **options: Any) -> httpx.Client:
        """A client with the key, blind to the environment's proxies."""
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=PATIENCE_S, trust_env=False, **options
        )

    def deploy(self, changed: dict[str, Any], *, wait: bool = True) -> None:
        """Apply a config, as `serve deploy` does, and wait until it serves."""
        self.pool.names = tuple(app["name"] for app in changed["applications"])
        self.pool.deploy(changed)
        if wait:
            self.wait_for(self._all_run)
            names = [app["args"]["id"] for app in changed["applications"] if app["name"].startswith("model-")]
            self.wait_for(lambda: set(names) == set(self.served()))

    def _all_run(self) -> bool:
        from ray import serve

        applications = serve.status().applications
        return set(applications) == set(self.pool.names) and all(
            app.status == "RUNNING" for app in applications.values()
        )

    def all_answer(self) -> bool:
        """Whether every model answers its name."""
        with self.client() as client:
            bodies = [
                {"model": name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
                for name in self.served()
            ]
            return all(client.post("/v1/chat/completions", json=body).status_code == 200 for body in bodies)

    def served(self) -> list[str]:
        """Models in the listing, `auto` left out."""
        with self.client() as client:
            data = client.get("/v1/models").json()["data"]
        return [one["id"] for one in data if not is_auto(one["id"])]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> float:
        """Seconds until the condition held. Fails the test after `timeout_s`."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < timeout_s:
            if condition():
                return time.monotonic() - began_s
            time.sleep(0.1)
        raise AssertionError(f"Condition did not hold within {timeout_s} s.")

    def pids(self, app: str, deployment: str) -> dict[str, int]:
        """Process ids of a deployment's running replicas, by replica id."""
        from ray.util.state import list_actors

        prefix = f"SERVE_REPLICA::{app}#{deployment}#"
        actors = list_actors(filters=[("state", "=", "ALIVE")], limit=1000)
        return {a.name.removeprefix(prefix): a.pid for a in actors if a.name and a.name.startswith(prefix)}

    def has_replaced(self, ingress: str) -> bool:
        """Whether two ingress replicas run and this one, which was killed, is forgotten."""
        pids = self.pids("fastserve", "Ingress")
        return ingress not in pids and len(pids) == 2

    def both_ingresses_answer(self) -> bool:
        """Whether HAProxy gives requests to two ingress replicas: one of them may just have been replaced."""
        hello = [{"role": "user", "content": "Hello"}]
        body = {"model": "slow", "messages": hello, "stream": True, "max_tokens": 2000}
        with contextlib.ExitStack() as stack:
            for _ in range(6):
                client = stack.enter_context(self.client())
                answer = stack.enter_context(client.stream("POST", "/v1/chat/completions", json=body))
                if answer.status_code != 200:
                    return False
            time.sleep(1.0)
            counts = self.snapshot().models["slow"].in_flight_by_ingress
        self.wait_for(lambda: self.running("slow") == 0)
        return sum(count > 0 for count in counts.values()) == 2

    def running(self, model: str) -> int:
        """Requests inside the engines of a model, as the table heard."""
        return sum(row.running + row.waiting for row in self.snapshot().models[model].replicas)

    def usable(self, model: str) -> int:
        """Replicas that take requests, as the table heard."""
        snapshot = self.snapshot()
        return sum(is_usable(row, snapshot.taken_at_s) for row in snapshot.models[model].replicas)

    def snapshot(self) -> Snapshot:
        """The table's newest snapshot."""
        import ray

        from deployments.table.actor import get_or_create_table

        return decode_snapshot(ray.get(get_or_create_table().snapshot_bytes.remote("", 0, 1.0)))

    def table(self, method: str, *args: object, timeout_s: float = PATIENCE_S) -> Any:
        """What a method of the table's actor returns, asked again while it is away."""
        import ray

        from deployments.table.names import NAME, NAMESPACE

        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                return ray.get(getattr(ray.get_actor(NAME, NAMESPACE), method).remote(*args), timeout=30.0)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.1)

    def table_pid(self) -> int:
        """Process id of the table's actor."""
        from ray.util.state import list_actors

        from deployments.table.names import NAME

        actors = list_actors(filters=[("state", "=", "ALIVE")], limit=1000)
        return next(int(actor.pid) for actor in actors if actor.name == NAME)

    def state(self) -> RolloutState:
        """Which policy version serves and which is on trial."""
        return self.table("rollout")

    def with_model(self, name: str) -> dict[str, Any]:
        """The base config with one simulated model more."""
        changed = copy.deepcopy(self.base)
        changed["applications"].append(model_app(name))
        return changed


@dataclass
class Answer:
    """One request of a load: when it ended, what came back."""

    model: str
    stream: bool
    began_s: float
    took_s: float
    status: int
    text: str = ""

    @property
    def is_whole(self) -> bool:
        """200, and for a stream its end mark without an error event."""
        if self.status != 200 or not self.stream:
            return self.status == 200
        events = [event.data or b"" for event in sse.parse(self.text.encode())]
        return events[-1:] == [sse.DONE] and not any("error" in json.loads(event) for event in events[:-1])


class Callers(ABC):
    """Closed-loop callers in threads, for as long as the context lasts."""

    def __init__(self, cluster: Cluster, callers: int) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _call(self, turn: int) -> None:
        with self._cluster.client() as client:
            while not self._stop.is_set():
                turn += 1
                self._ask(client, turn)

    @abstractmethod
    def _ask(self, client: httpx.Client, turn: int) -> None:
        """One request."""


class Load(Callers):
    """Requests for models in turn, every other one streamed; read `answers` afterwards."""

    def __init__(self, cluster: Cluster, models: list[str], callers: int, **body: Any) -> None:
        super().__init__(cluster, callers)
        self.answers: list[Answer] = []
        self._models, self._body = models, body

    def until(self, answers: int) -> None:
        """Returns when so many answers have come: a slow machine takes longer, and sees as much."""
        self._cluster.wait_for(lambda: len(self.answers) >= answers)

    def _ask(self, client: httpx.Client, turn: int) -> None:
        self.answers.append(self._once(client, self._models[turn % len(self._models)], turn % 2 == 0))

    def _once(self, client: httpx.Client, model: str, stream: bool) -> Answer:
        messages = [{"role": "user", "content": "Hello"}]
        body = {"model": model, "messages": messages, "stream": stream, **self._body}
        began_s = time.monotonic()
        try:
            answer = client.post("/v1/chat/completions", json=body)
            status, text = answer.status_code, answer.text
        except httpx.HTTPError as error:
            status, text = 0, repr(error)
        return Answer(model, stream, began_s, time.monotonic() - began_s, status, text)
