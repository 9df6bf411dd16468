"""`fastserve up` is told to stop: streams that it serves end, and then it does."""

import signal
from pathlib import Path

import httpx
import pytest
import yaml

from tests.integration.running import document, free_ports, model_app
from tests.integration.up import CHECKOUT, checkout_environment, up

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def test_sigterm_to_the_pool_lets_its_streams_end(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    slow = {"decode_step_s": 0.01, "mean_output_tokens": 100_000}
    config = tmp_path / "pool.yaml"
    made = document(port, [model_app("slow", simulated=slow)], ingresses=1)
    config.write_text(yaml.safe_dump(made))
    environ = checkout_environment(tmp_path)
    body = {"model": "slow", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with up(CHECKOUT, config, environ) as process:
        key = (tmp_path / "home" / "key").read_text().strip()
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False) as client,
            client.stream(
                "POST",
                "/v1/chat/completions",
                json=body | {"max_tokens": 300},
                headers={"authorization": f"Bearer {key}"},
            ) as answer,
        ):
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            text = "\n".join(lines)
        assert text.rstrip().endswith("data: [DONE]")
        assert '"error"' not in text
        assert process.wait(120.0) == 0
