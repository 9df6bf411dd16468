"""Clients of HTTP/1.0 through a whole pool: no chunks, and the end of the connection is the end."""

import asyncio
import json

import pytest

from deployments import sse

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def asked(pool, path, body, version="1.0"):
    """Head and body of an answer as they stand on the wire."""
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/{version}\r\nhost: a\r\ncontent-length: {len(raw)}\r\nconnection: close\r\n"
    key = pool.client.headers["authorization"]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(pool.url.rpartition(":")[2]))
    writer.write(f"{head}authorization: {key}\r\n\r\n".encode() + raw)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.lower(), body


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_of_http_1_0_gets_bytes_to_the_end(pool, stream):
    if not pool.models:
        await pool.add("small")
    chat = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    head, body = await asked(pool, "/v1/chat/completions", chat)
    assert b" 200 " in head
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    if stream:
        assert b"content-length" not in head
        assert sse.parse(body)[-1].data == sse.DONE
        assert body.startswith(b"data: ")
    else:
        assert json.loads(body)["choices"]


async def test_one_of_http_1_1_gets_chunks(pool):
    chat = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    head, _ = await asked(pool, "/v1/chat/completions", chat, "1.1")
    assert b"transfer-encoding: chunked" in head
