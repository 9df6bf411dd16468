"""A pool whose door speaks TLS: clients, commands, the dashboard and the evaluator, each as it is used."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serve_app.http.certificate import CHAIN_ENV, KEY_ENV
from tests.certificates import Authority
from tests.integration.running import document, free_ports, model_app
from tests.integration.up import CHECKOUT, checkout_environment, printed, up

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@dataclass
class Secure:
    """The pool, and what its users have: the authority's certificate in SSL_CERT_FILE, and a key."""

    url: str
    environ: dict[str, str]
    folder: Path

    def run(self, *words: str) -> str:
        """What a command printed."""
        return printed([*CHECKOUT, *words], self.folder, self.environ)

    def client(self) -> httpx.Client:
        """Trusts the authority and has the first key."""
        key = (self.folder / "home" / "key").read_text().strip()
        headers = {"authorization": f"Bearer {key}"}
        verify = str(self.folder / "authority.pem")
        return httpx.Client(base_url=self.url, headers=headers, verify=verify, timeout=60.0, trust_env=False)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """Two simulated models; the certificate is for 127.0.0.1, signed by an authority of the test's own."""
    folder = tmp_path_factory.mktemp("tls")
    authority, (port,) = Authority(folder), free_ports(1)
    certificate = authority.sign("pool.example")
    made = document(port, [model_app("alpha"), model_app("beta", accuracy_prior=0.6)], ingresses=1)
    variables = made["controller_options"]["runtime_env"]["env_vars"]
    variables |= {CHAIN_ENV: str(certificate.chain), KEY_ENV: str(certificate.key)}
    endpoint: dict[str, Any] = made["applications"][0]
    endpoint["args"] |= {"evaluator": True}
    suites = {"suites": ["suites/customer-service.jsonl"]}
    endpoint["deployments"].append({"name": "Evaluator", "user_config": suites})
    config = folder / "pool.yaml"
    config.write_text(yaml.safe_dump(made))
    environ = {**checkout_environment(folder), "SSL_CERT_FILE": str(authority.file)}
    with up(CHECKOUT, config, environ):
        yield Secure(f"https://127.0.0.1:{port}", environ, folder)


def test_every_model_answers_plain_and_streamed(secure: Secure) -> None:
    answers = json.loads(secure.run("check", "--url", secure.url, "--json"))["answers"]
    assert {"auto", "alpha", "beta"} <= {answer["asked"] for answer in answers}
    assert [answer for answer in answers if answer["error"]] == []
    assert json.loads(secure.run("chat", "Hello", "--url", secure.url, "--json"))["text"]


def test_the_evaluator_and_status_do_not_need_the_door(secure: Secure) -> None:
    assert "customer-service" in secure.run("evaluate", "--models", "alpha", "--json")
    assert "beta" in secure.run("status")


def test_the_dashboard_s_cookie_is_for_tls_only(secure: Secure) -> None:
    with secure.client() as client:
        key = client.headers["authorization"].removeprefix("Bearer ")
        answer = client.post("/dashboard/sign-in", json={"key": key}, headers={"origin": secure.url})
    assert answer.is_success, answer.text
    assert "Secure" in answer.headers["set-cookie"]


def test_plain_http_is_not_answered(secure: Secure) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(secure.url.replace("https", "http") + "/health", timeout=60.0, trust_env=False)
