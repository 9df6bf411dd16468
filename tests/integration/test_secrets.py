"""No secret of the pool stands in what Ray writes on disk: the logs, and all else of its session."""

import httpx
import pytest

from deployments.home import store_key_file
from deployments.keys.internal import internal_credential
from scripts.benchmarks.faults.door import files_with
from tests.integration.running import KEY, PATIENCE_S, Cluster

pytestmark = pytest.mark.integration

BODY = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
WRONG = "fs-integration-a-wrong-key-9876543210"


def test_no_secret_stands_in_rays_files(cluster: Cluster) -> None:
    with cluster.client() as client:
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200
        assert client.post("/v1/chat/completions", json={**BODY, "model": "none"}).status_code == 404
    wrong = {"authorization": f"Bearer {WRONG}"}
    with httpx.Client(base_url=cluster.url, headers=wrong, timeout=PATIENCE_S, trust_env=False) as stranger:
        assert stranger.post("/v1/chat/completions", json=BODY).status_code == 401
    pool = cluster.table("secret")
    secrets = {
        "API key": KEY,
        "wrong key": WRONG,
        "pool's secret": pool,
        "replicas' credential": internal_credential(pool),
        "store key": store_key_file().read_text().splitlines()[0],
    }
    assert {name: files_with(secret) for name, secret in secrets.items() if files_with(secret)} == {}
