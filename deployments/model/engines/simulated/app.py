"""The simulated engine's ASGI app: OpenAI's endpoints over a batch clock."""

import asyncio
import base64
import json
import random
import struct
import uuid
from collections.abc import Callable
from typing import Any

from starlette.types import Receive, Scope, Send

from deployments.model.engines.http import disconnected, read_body, request_id, send_error, send_json
from deployments.model.engines.simulated.clock import BatchClock, Sequence
from deployments.model.engines.simulated.shapes import (
    BadRequestError,
    Chat,
    Completion,
    Response,
    Shape,
    Usage,
    texts_of,
)
from deployments.model.engines.simulated.structured import wanted_call, wanted_json
from deployments.model.engines.simulated.text import (
    BYTES_PER_TOKEN,
    Plan,
    Question,
    count_tokens,
    embedding,
    plan,
)
from deployments.model.simulated_settings import SimulatedFaults, SimulatedSettings

SHAPES: dict[str, type[Shape]] = {
    "/v1/chat/completions": Chat,
    "/v1/completions": Completion,
    "/v1/responses": Response,
}
AT_ONCE = frozenset({"/v1/embeddings", "/v1/rerank", "/v1/score", "/tokenize", "/detokenize"})
SCORED = (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2"))
EMBEDDING_SIZE = 64
MAX_CHOICES = 16
Finished = Callable[[str, list[Sequence], str], None]  # decision id, one sequence a choice, finish reason


class SimulatedDeathError(RuntimeError):
    """Raised on purpose, so that the server cuts the connection."""


class SimulatedApp:
    """Answers as vLLM would, in form; the time comes from the clock and the text is canned."""

    def __init__(
        self,
        model: str,
        context_tokens: int,
        settings: SimulatedSettings,
        clock: BatchClock,
        finished: Finished,
    ) -> None:
        self._model = model
        self._context_tokens = context_tokens
        self._settings = settings
        self._clock = clock
        self._finished = finished
        self._chance = random.Random(settings.seed)
        self.faults: SimulatedFaults = settings.faults
        self.hanging = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if method == "GET" and path == "/health":
            await send_json(send, 200, {})
        elif method == "GET" and path == "/v1/models":
            await send_json(send, 200, {"object": "list", "data": [self._card()]})
        elif method == "POST" and (path in SHAPES or path in AT_ONCE):
            await self._post(scope, receive, send)
        else:
            await send_error(send, 404, f"No endpoint '{method} {path}'.", code="not_found")

    def _card(self) -> dict[str, Any]:
        return {
            "id": self._model,
            "object": "model",
            "created": 0,
            "owned_by": "simulated",
            "max_model_len": self._context_tokens,
            "simulated": True,
        }

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = self._parse(await read_body(receive))
            if scope["path"] in AT_ONCE:
                await send_json(send, 200, self._at_once(scope["path"], body))
                return
            decision_id = request_id(scope) or str(body.get("request_id") or uuid.uuid4().hex)
            shape = SHAPES[scope["path"]](body, decision_id)
            plans = self._plans(shape)
            if await self._broken(receive, send):
                return
            each = len(plans) // len(shape.prompts)  # choices of one prompt
            sequences = [
                self._clock.submit(count_tokens(shape.prompts[index // each][0]), len(one.tokens))
                for index, one in enumerate(plans)
            ]
        except BadRequestError as error:
            status = 404 if error.code == "model_not_found" else 400
            await send_error(send, status, str(error), param=error.param, code=error.code)
            return
        await self._generate(shape, plans, sequences, receive, send, decision_id)

    def _parse(self, raw: bytes) -> dict[str, Any]:
        try:
            body = json.loads(raw)
        except ValueError as error:
            raise BadRequestError(f"The body is not JSON: {error}.") from error
        if not isinstance(body, dict):
            raise BadRequestError("The body must be a JSON object.")
        if body.get("model") != self._model:
            message = f"The model '{body.get('model')}' does not exist. Served: '{self._model}'."
            raise BadRequestError(message, "model", "model_not_found")
        return body

    def _plans(self, shape: Shape) -> list[Plan]:
        prompt_tokens = max(count_tokens(prompt) for prompt, _ in shape.prompts)
        room = min(self._context_tokens, self._settings.kv_tokens) - prompt_tokens
        asked = next(
            (shape.body[name] for name in shape.limit_fields if shape.body.get(name) is not None), None
        )
        limit = _whole(asked, shape.limit_fields[0], 1) if asked is not None else room
        if room < 1 or (asked is not None and limit > room):
            message = (
                f"This model's context is {self._context_tokens} tokens; "
                f"the prompt has {prompt_tokens}, max_tokens is {asked}."
            )
            raise BadRequestError(message, shape.limit_fields[0], "context_length_exceeded")
        choices = _whole(shape.body.get("n") or 1, "n", 1)
        if choices > MAX_CHOICES:
            raise BadRequestError(f"'n' is {choices}, but must be at most {MAX_CHOICES}.", "n")
        seed = _whole(shape.body.get("seed") or 0, "seed", None)
        stop = _stop(shape.body.get("stop"))
        ignore_eos = bool(shape.body.get("ignore_eos"))
        least = _whole(shape.body.get("min_tokens") or 0, "min_tokens", 0)
        if least > limit:
            raise BadRequestError(f"'min_tokens' is {least}, but must be at most {limit}.", "min_tokens")
        questions = [
            Question(
                prompt,
                last,
                seed + index,
                limit,
                stop,
                ignore_eos,
                wanted_json(shape.body, last),
                wanted_call(shape.body, last, is_answered=shape.is_answered),
                least,
            )
            for prompt, last in shape.prompts
            for index in range(choices)
        ]
        return [plan(self._settings, question) for question in questions]

    def _at_once(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What takes no time: nothing is generated."""
        answers = {
            "/v1/embeddings": self._embeddings,
            "/v1/rerank": self._reranked,
            "/v1/score": self._scored,
            "/tokenize": self._tokens,
            "/detokenize": self._text,
        }
        return answers[path](body)

    def _tokens(self, body: dict[str, Any]) -> dict[str, Any]:
        """Each token is four bytes, as one number."""
        if body.get("messages") is None:
            text = texts_of(body.get("prompt"), "prompt")[0]
        else:
            text = Chat(body, "tokens").prompts[0][0]
        raw = text.encode("utf-8", "replace")
        size = BYTES_PER_TOKEN
        tokens = [int.from_bytes(raw[start : start + size], "big") for start in range(0, len(raw), size)]
        return {"count": len(tokens), "max_model_len": self._context_tokens, "tokens": tokens}

    def _text(self, body: dict[str, Any]) -> dict[str, Any]:
        raw = b"".join(int(token).to_bytes(8, "big").lstrip(b"\0") for token in body.get("tokens") or ())
        return {"prompt": raw.decode("utf-8", "replace")}

    def _reranked(self, body: dict[str, Any]) -> dict[str, Any]:
        """Documents by how many of the query's words they have."""
        documents = _documents(body.get("documents"), "documents")
        scores = [_likeness(str(body.get("query")), text) for text in documents]
        order = sorted(range(len(documents)), key=lambda index: -scores[index])
        top_n = _whole(body.get("top_n") or len(order), "top_n", 1)
        results = [
            {"index": index, "document": {"text": documents[index]}, "relevance_score": scores[index]}
            for index in order[:top_n]
        ]
        return {"id": "rerank-0", "model": self._model, "results": results, "usage": _read(documents)}

    def _scored(self, body: dict[str, Any]) -> dict[str, Any]:
        names = next((pair for pair in SCORED if all(body.get(name) is not None for name in pair)), SCORED[0])
        one, other = (_documents(body.get(name), name) for name in names)
        if len(one) not in (1, len(other)):
            message = f"'{names[0]}' has {len(one)} texts, must have 1 or {len(other)}."
            raise BadRequestError(message, names[0])
        ones = one * (len(other) // len(one))
        pairs = enumerate(zip(ones, other, strict=True))
        data = [{"index": i, "object": "score", "score": _likeness(*pair)} for i, pair in pairs]
        return {"object": "list", "model": self._model, "data": data, "usage": _read([*one, *other])}

    def _embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        texts = texts_of(body.get("input"), "input")
        in_base64 = body.get("encoding_format") == "base64"
        tokens = sum(count_tokens(text) for text in texts)
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _encoded(embedding(self._settings, text, EMBEDDING_SIZE), in_base64),
            }
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": self._model, "data": data, "usage": usage}

    async def _broken(self, receive: Receive, send: Send) -> bool:
        """Whether a fault took the request: an error at once, or silence until the client leaves."""
        draw = self._chance.random()
        if draw < self.faults.error_rate:
            await send_error(send, 500, "Simulated failure.", kind="server_error", code="simulated_failure")
            return True
        if draw < self.faults.error_rate + self.faults.hang_rate:
            self.hanging += 1
            try:
                await disconnected(receive)
            finally:
                self.hanging -= 1
            return True
        return False

    async def _generate(
        self,
        shape: Shape,
        plans: list[Plan],
        sequences: list[Sequence],
        receive: Receive,
        send: Send,
        decision_id: str,
    ) -> None:
        def leave(_: asyncio.Task[None]) -> None:
            for sequence in sequences:
                self._clock.abort(sequence)

        watch = asyncio.create_task(disconnected(receive))
        watch.add_done_callback(leave)
        try:
            if shape.body.get("stream"):
                await self._stream(shape, plans, sequences, send)
            else:
                await self._whole(shape, plans, sequences, send)
        finally:
            watch.cancel()
            leave(watch)
            aborted = any(sequence.aborted for sequence in sequences)
            self._finished(decision_id, sequences, "abort" if aborted else plans[0].finish_reason)

    async def _whole(self, shape: Shape, plans: list[Plan], sequences: list[Sequence], send: Send) -> None:
        die_at = self.faults.die_at_token
        for sequence in sequences:
            while not sequence.done:
                await sequence.progress.wait()
                sequence.progress.clear()
                if die_at is not None and sequence.produced >= die_at:
                    raise SimulatedDeathError(f"Died at token {die_at}, as configured.")
        if not any(sequence.aborted for sequence in sequences):
            await send_json(send, 200, shape.answer(plans, _usage(sequences, len(shape.prompts))))

    async def _stream(self, shape: Shape, plans: list[Plan], sequences: list[Sequence], send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_part(send, b"".join(shape.opening(plans)))
        await asyncio.gather(
            *(
                self._stream_choice(shape, index, plans[index], sequence, send)
                for index, sequence in enumerate(sequences)
            )
        )
        if not any(sequence.aborted for sequence in sequences):
            await _send_part(send, b"".join(shape.ending(plans, _usage(sequences, len(shape.prompts)))))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream_choice(
        self, shape: Shape, index: int, whole: Plan, sequence: Sequence, send: Send
    ) -> None:
        said, last, die_at = 0, len(whole.tokens) - 1, self.faults.die_at_token
        while not sequence.aborted and said <= last:
            if said == sequence.produced:
                await sequence.progress.wait()
                sequence.progress.clear()
                continue
            if die_at is not None and said >= die_at:
                raise SimulatedDeathError(f"Died at token {die_at}, as configured.")
            reason = whole.finish_reason if said == last else None
            await _send_part(send, shape.delta(index, whole.tokens[said], reason, whole.tool))
            said += 1


async def _send_part(send: Send, part: bytes) -> None:
    if part:
        await send({"type": "http.response.body", "body": part, "more_body": True})


def _documents(given: Any, field: str) -> list[str]:
    """Texts, each a string or an object with one."""
    entries = given if isinstance(given, list) else [given]
    texts: list[Any] = [entry.get("text") if isinstance(entry, dict) else entry for entry in entries]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequestError(f"'{field}' must be a text or several.", field)
    return texts


def _likeness(one: str, other: str) -> float:
    """Share of the words of `one` that `other` has."""
    words, there = set(one.lower().split()), set(other.lower().split())
    return len(words & there) / max(len(words), 1)


def _read(texts: list[str]) -> dict[str, int]:
    tokens = sum(map(count_tokens, texts))
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _encoded(values: list[float], in_base64: bool) -> list[float] | str:
    """As they are, or as OpenAI's clients ask for them: float32, little-endian, in base64."""
    if not in_base64:
        return values
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def _usage(sequences: list[Sequence], prompts: int) -> Usage:
    """The choices of one prompt share its tokens."""
    prompt_tokens = sum(sequence.prompt_tokens for sequence in sequences[:: len(sequences) // prompts])
    return Usage(prompt_tokens, sum(sequence.output_tokens for sequence in sequences))


def _whole(value: object, name: str, least: int | None) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as vLLM reads it
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        bound = "an integer" if least is None else f"an integer of at least {least}"
        raise BadRequestError(f"'{name}' is {value!r}, but must be {bound}.", name)
    return value


def _stop(value: object) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BadRequestError("'stop' must be a string or a list of strings.", "stop")
    return tuple(words)
