"""The endpoint on real Ray behind HAProxy: the OpenAI SDK, `auto`, profiles, explain, errors."""

import pytest
from openai import OpenAI

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sdk(cluster):
    with (
        cluster.client() as client,
        OpenAI(
            base_url=f"{cluster.url}/v1",
            api_key="fs-integration-key-0123456789",
            http_client=client,
            max_retries=0,
        ) as made,
    ):
        yield made


def test_auto_answers(sdk):
    answer = sdk.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": "Hello"}]
    )
    assert answer.parse().model == answer.headers["x-fastserve-model"]
