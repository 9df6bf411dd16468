"""What 2 MiB of the worst cost the ingress's event loop: the longest that one body keeps it from all others.

The ingress behind its guard in a process of its own, with its real bounds; each body is sent several times
and the least of its longest steps counts, as whatever else the machine does only adds to it. The bar is on
the CPU of the loop's thread; the time by the wall clock stands beside it.
"""

import argparse
import gzip
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from scripts.benchmarks.faults.ingress_child import MODEL
from scripts.benchmarks.report import Bar, Report, bar

MOST_MS: Final = 50.0
BYTES: Final = 2 * 2**20
CHAT: Final = "/v1/chat/completions"


def _chat(**fields: Any) -> bytes:
    hello = [{"role": "user", "content": "Hello"}]
    return json.dumps({"model": MODEL, "messages": hello, **fields}, ensure_ascii=False).encode()


def _said(text: str) -> bytes:
    return _chat(messages=[{"role": "user", "content": text}])


def _any(value: bytes) -> bytes:
    """A body with any JSON beside its prompt, which nobody knows."""
    return b'{"model":"m","messages":[{"role":"user","content":"Hello"}],"metadata":' + value + b"}"


def _array(unit: bytes, count: int) -> bytes:
    return _any(b"[" + b",".join([unit] * count) + b"]")


def _tools(count: int, schema: dict[str, Any]) -> bytes:
    tools = [{"type": "function", "function": {"name": f"f{n}", "parameters": schema}} for n in range(count)]
    return _chat(tools=tools)


def _schema(count: int) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {f"p{n}": {"type": "string", "enum": ["a"]} for n in range(count)},
    }


def _path(path: str, **fields: Any) -> tuple[str, bytes]:
    return path, json.dumps({"model": MODEL, **fields}, ensure_ascii=False).encode()


def _parts(part: dict[str, Any], count: int) -> bytes:
    return _chat(messages=[{"role": "user", "content": [part] * count}])


SHAPES: Final[dict[str, Callable[[], bytes | tuple[str, bytes]]]] = {
    "empty arrays, refused": lambda: _array(b"[]", 690_000),
    "empty arrays, as many as may be": lambda: _array(b"[]", 24_000),
    "arrays in arrays": lambda: _array(b"[[[[[[[[[[[0]]]]]]]]]]]", 2_200),
    "members, as many as may be": lambda: _any(
        b"{" + b",".join(b'"%d":0' % (n << 9) for n in range(49_000)) + b"}"
    ),
    "members with long names": lambda: _any(b"{" + b",".join(b'"%040d":0' % n for n in range(46_000)) + b"}"),
    "objects": lambda: _array(b'{"a":{"b":0}}', 12_000),
    "numbers": lambda: _array(b"1e9", 262_000),
    "long numbers": lambda: _array(b"1.7976931348623157e308", 90_000),
    "strings": lambda: _array(b'""', 262_000),
    "an error at the end": lambda: _any(b"[" + b"0," * 262_000 + b"NaN]"),
    "a key twice at the end": lambda: b"{" + b",".join(b'"%d":0' % (n % 1_000) for n in range(1_024)) + b"}",
    "a text": lambda: _said("word " * (BYTES // 5)),
    "a text of one letter": lambda: _said("a" * BYTES),
    "a text of blanks": lambda: _said(" " * BYTES),
    "a text of line ends": lambda: _said("a\n" * (BYTES // 3)),
    "a text of different words": lambda: _said(" ".join(f"{n:x}" for n in range(330_000))),
    "a text of digits": lambda: _said("0123456789" * (BYTES // 10)),
    "a text of signs": lambda: _said("{}()[];:=+-*" * (BYTES // 12)),
    "Chinese": lambda: _said("中文" * (BYTES // 6)),
    "Arabic": lambda: _said("مرحبا " * (BYTES // 11)),
    "faces": lambda: _said("\N{GRINNING FACE}" * (BYTES // 4)),
    "escapes": lambda: _said("").replace(b'""', b'"' + b"\\u4e00" * (BYTES // 6) + b'"'),
    "code": lambda: _said("    def f(self, x):\n        return x['a'] + 1\n" * (BYTES // 48)),
    "messages": lambda: _chat(messages=[{"role": "user", "content": "w " * 230}] * 4_096),
    "messages of one word": lambda: _chat(messages=[{"role": "user", "content": "w"}] * 4_096),
    "parts of text": lambda: _parts({"type": "text", "text": "w " * 60}, 12_000),
    "parts of one letter": lambda: _parts({"type": "text", "text": "w"}, 24_000),
    "calls of tools": lambda: _chat(
        messages=[
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                    for n in range(12_000)
                ],
            }
        ]
    ),
    "a picture": lambda: _parts(
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (BYTES - 4_096)}}, 1
    ),
    "tools": lambda: _tools(128, {"type": "object", "description": "x" * 15_000}),
    "tools with properties": lambda: _tools(60, _schema(200)),
    "tools with empty properties": lambda: _tools(
        90, {"type": "object", "properties": {f"p{n}": {} for n in range(256)}}
    ),
    "tools with values": lambda: _tools(128, {"type": "object", "enum": ["a"] * 1_000}),
    "tools with patterns": lambda: _tools(128, {"type": "string", "pattern": "[a-z]" * 250}),
    "a schema": lambda: _chat(
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": _schema(250)}}
    ),
    "a schema of long texts": lambda: _chat(
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "s", "schema": {"type": "object", "enum": ["x" * 200] * 1_000}},
        }
    ),
    "completions": lambda: _path("/v1/completions", prompt=["word " * 3_200] * 128),
    "token ids": lambda: _path("/v1/completions", prompt=[[100_000] * 2_000] * 128),
    "embedding inputs": lambda: _path("/v1/embeddings", input=["word " * 200] * 2_048),
    "embedding token ids": lambda: _path("/v1/embeddings", input=[[99_999] * 125] * 2_048),
    "responses": lambda: _path("/v1/responses", input=[{"role": "user", "content": "w " * 230}] * 4_096),
    "Anthropic's messages": lambda: _path(
        "/v1/messages", max_tokens=4, messages=[{"role": "user", "content": "w " * 230}] * 4_096
    ),
    "documents": lambda: _path("/v1/rerank", query="w", documents=["word " * 200] * 2_048),
    "text to tokens": lambda: _path("/tokenize", prompt="word " * (BYTES // 5)),
    "explain": lambda: ("/v1/dispatch/explain", _said("word " * (BYTES // 5)).replace(b'"m"', b'"auto"')),
    "auto": lambda: _said("word " * (BYTES // 5)).replace(b'"m"', b'"auto"'),
    "gzip of blanks, refused": lambda: gzip.compress(_said(" " * (30 * 2**20))),
    "gzip of 11 MiB": lambda: gzip.compress(_said(" " * (11 * 2**20))),
    "gzip of a text": lambda: gzip.compress(_said("word " * 1_590_000)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--repeats", type=int, default=7, help="times that each body is sent")
    parser.add_argument("--only", metavar="A,B", help="only these shapes")


def run(args: argparse.Namespace) -> Report:
    """Every shape in turn."""
    names = args.only.split(",") if args.only else list(SHAPES)
    bars: list[Bar] = []
    results: dict[str, Any] = {}
    with _ingress() as ingress:
        for name in names:
            made = SHAPES[name]()
            path, raw = made if isinstance(made, tuple) else (CHAT, made)
            rows = [ingress.ask(path, raw, is_gzip=name.startswith("gzip")) for _ in range(args.repeats)]
            cpu_ms = sorted(row["cpu_ms"] for row in rows)
            results[name] = {
                "bytes": len(raw),
                "status": rows[-1]["status"],
                "cpu_ms": cpu_ms[0],
                "median_cpu_ms": cpu_ms[len(cpu_ms) // 2],
                "wall_ms": min(row["wall_ms"] for row in rows),
            }
            bars.append(bar(f"{name}: longest step, ms of CPU", cpu_ms[0], "<=", MOST_MS))
    return Report("event_loop", tuple(bars), results)


@dataclass(frozen=True, slots=True)
class Asked:
    """The ingress in its own process."""

    host: str
    port: int
    key: str
    child: "subprocess.Popen[str]"

    def ask(self, path: str, raw: bytes, *, is_gzip: bool = False) -> dict[str, float]:
        """Status of the answer to one body, and the longest step that it cost."""
        self._told()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120.0)
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        connection.request("POST", path, raw, headers | ({"content-encoding": "gzip"} if is_gzip else {}))
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return {"status": answer.status, **self._told()}

    def _told(self) -> dict[str, float]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        told: dict[str, float] = json.loads(self.child.stdout.readline())
        return told


@contextmanager
def _ingress() -> Iterator[Asked]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    mock = [sys.executable, "-m", "scripts.benchmarks.serving.mock_upstream", str(port)]
    key, environ = f"fs-{secrets.token_hex(16)}", dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="fastserve-loop-") as folder, subprocess.Popen(mock) as upstream:
        words = [sys.executable, "-m", "scripts.benchmarks.faults.ingress_child", folder, key]
        words.append(f"http://127.0.0.1:{port}")
        environ["FASTSERVE_HOME"] = folder
        pipe = subprocess.PIPE
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=environ) as child:
            assert child.stdout is not None
            url = urlsplit(child.stdout.readline().strip())
            try:
                asked = Asked(url.hostname or "", url.port or 0, key, child)
                while asked.ask(CHAT, _chat())["status"] != 200:
                    time.sleep(0.2)
                yield asked
            finally:
                child.terminate()
                upstream.terminate()
