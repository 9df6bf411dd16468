"""The OpenAI-shaped error, made here and nowhere else."""

import re
from collections.abc import Mapping, Sequence

import orjson

_NO_RETRY = {"x-should-retry": "false"}  # OpenAI's SDKs obey it
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_COLD_S = 10.0  # until a model that starts is worth asking for again
_MESSAGE_LIMIT = 1000  # characters of an engine's own message
_ECHO_LIMIT = 64  # characters of the caller's text that a message may repeat
CONTEXT_CODE = "context_length_exceeded"
_CONTEXT_WORDS = "maximum context length"
_TOO_LONG = re.compile(  # how engines and providers say so
    r"maximum (context|model|input|prompt) length|max_model_len|context (length|window|size)|n_ctx"
    r"|(prompt|input)\S* (is|are) too long|exceeds? the (maximum|max)( number of)?( input)? tokens",
    re.IGNORECASE,
)


class ApiError(Exception):
    """An answer that is an error: HTTP status plus OpenAI's `message`, `type`, `param`, `code`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        self.may_pass = False  # a moment later the answer may be another one
        self.ready_in_s = 0.0  # above 0: a model was asked to wake for the request, and serves then

    @property
    def type(self) -> str:
        """OpenAI's error class for this status."""
        return _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    def body(self) -> bytes:
        """The JSON body."""
        detail = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return orjson.dumps({"error": detail})

    def events(self) -> bytes:
        """The error inside a stream that has begun: one SSE event, then the end mark."""
        return b"data: " + self.body() + b"\n\ndata: [DONE]\n\n"


def quoted(value: object) -> str:
    """A caller's value for a message: quoted, cut to 64 characters."""
    text = str(value)
    return f"'{text if len(text) <= _ECHO_LIMIT else text[:_ECHO_LIMIT] + '…'}'"


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """400: the body breaks a rule."""
    return ApiError(400, message, code=code, param=param)


def unauthorized() -> ApiError:
    """401: no key, or one that is not known."""
    message = "Missing, unknown or expired API key. Send it as `Authorization: Bearer <key>`."
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def keys_unavailable() -> ApiError:
    """503: which keys hold is not known, so none does; the operator's status says why."""
    message = "API keys cannot be checked now. Try again; the operator's `fastserve status` says why."
    return unavailable(message, "keys_unavailable", 2.0)


def forbidden(roles: Sequence[str]) -> ApiError:
    """403: the key has none of the roles that a route takes."""
    names = " or ".join(f"'{role}'" for role in roles)
    return ApiError(403, f"This API key lacks the role {names}.", code="insufficient_permissions")


def model_not_allowed(model: str, param: str = "model") -> ApiError:
    """403: the key may not use this model, whether or not there is one."""
    message = f"This API key may not use model {quoted(model)}."
    return ApiError(403, message, code="model_not_allowed", param=param)


def model_not_found(model: str, served: Sequence[str]) -> ApiError:
    """404: no such model; names those that are served."""
    names = ", ".join(f"'{name}'" for name in served) or "none yet"
    return ApiError(
        404, f"Model {quoted(model)} is not served. Served: {names}.", code="model_not_found", param="model"
    )


def model_cold(model: str) -> ApiError:
    """503: the pool is to have this model, but no replica of it has begun yet."""
    return unavailable(f"Model {quoted(model)} is starting.", retry_after_s=_COLD_S)


def model_asleep(model: str, ready_in_s: float) -> ApiError:
    """503: the model had no replica; one starts now, because it was asked for."""
    message = f"Model {quoted(model)} was asleep and starts now; it answers in about {ready_in_s:.0f} s."
    error = unavailable(message, "model_asleep", ready_in_s)
    error.may_pass, error.ready_in_s = True, ready_in_s
    return error


def model_unpriced(model: str, limit: str) -> ApiError:
    """503: the model would slip through a limit in dollars; only the operator can help."""
    message = (
        f"{limit} is a limit in dollars, and model {quoted(model)} has price 0. It answers once its operator "
        "gives it a price."
    )
    error = unavailable(message, "model_unpriced", may_retry=False)
    error.headers["x-fastserve-degraded"] = "prices"
    return error


def profile_not_found(name: str, known: Sequence[str]) -> ApiError:
    """404: no such profile; names those that are configured."""
    names = ", ".join(f"'{one}'" for one in known) or "none"
    message = f"Profile {quoted(name)} is not configured. Configured: {names}."
    return ApiError(404, message, code="model_not_found", param="model")


def not_found(path: str, meant: str = "") -> ApiError:
    """404: no such path; `meant` is the served path that it resembles."""
    hint = f" Did you mean '{meant}'? A client's base URL ends in '/v1'." if meant else ""
    return ApiError(404, f"Path {quoted(path)} is not served.{hint}", code="not_found")


def wrong_method(method: str, allowed: Sequence[str]) -> ApiError:
    """405: the path is served, not by this method."""
    names = ", ".join(allowed)
    message = f"Method {quoted(method)} is not allowed here. Allowed: {names}."
    return ApiError(405, message, code="method_not_allowed", headers={"allow": names})


def wrong_content_type(value: str) -> ApiError:
    """415: the body is not declared as JSON."""
    message = f"Content type {quoted(value)} is not supported. Send 'application/json'."
    return ApiError(415, message, code="unsupported_media_type")


def wrong_encoding(value: str) -> ApiError:
    """415: the body is compressed in a way that is not known here."""
    message = f"Content encoding {quoted(value)} is not supported. Send 'gzip', 'deflate' or none."
    headers = {"accept-encoding": "gzip, deflate, identity"}
    return ApiError(415, message, code="unsupported_encoding", headers=headers)


def body_too_large(limit_bytes: int) -> ApiError:
    """413: the body is over the cap."""
    return ApiError(413, f"The body is larger than {limit_bytes} bytes.", code="request_too_large")


def body_too_rich(all_bytes: int, limit_bytes: int) -> ApiError:
    """413: the body would not even have room if it were the only one."""
    message = f"The body comes to {all_bytes} bytes once it is parsed; all may hold {limit_bytes}."
    return ApiError(413, message, code="request_too_large")


def bodies_too_large(limit_bytes: int, whose: str = "all") -> ApiError:
    """503: the bodies under way leave no room for one more."""
    message = f"Bodies under way, of {whose}, may hold {limit_bytes} bytes of memory. Send this one later."
    return ApiError(503, message, code="bodies_too_large", headers={"retry-after": "1"})


def body_too_slow(limit_s: float, bytes_per_s: int) -> ApiError:
    """408: the body did not arrive in time."""
    message = f"The body must arrive within {limit_s:g} s, or at {bytes_per_s} bytes/s from then on."
    return ApiError(408, message, code="request_timeout")


def context_too_long(context_tokens: int, param: str) -> ApiError:
    """400: prompt and answer cannot fit. Clients look for the words "maximum context length"."""
    message = (
        f"This model's {_CONTEXT_WORDS} is {context_tokens} tokens, prompt and answer; the request is longer."
    )
    return ApiError(400, message, code=CONTEXT_CODE, param=param)


def missing_capability(missing: Sequence[str], model: str) -> ApiError:
    """400: no model that may answer can do what the request needs."""
    names = ", ".join(f"'{name}'" for name in missing)
    message = f"No model for {quoted(model)} has the capability {names} that this request needs."
    return ApiError(400, message, code="no_model_fits", param="model")


def overloaded(message: str, code: str = "rate_limit_exceeded", retry_after_s: float = 1.0) -> ApiError:
    """429: a limit of ours or of the pool."""
    return ApiError(429, message, code=code, headers={"retry-after": str(max(1, round(retry_after_s)))})


def unavailable(
    message: str, code: str = "model_unavailable", retry_after_s: float = 1.0, *, may_retry: bool = True
) -> ApiError:
    """503: nothing healthy can answer now."""
    headers = {"retry-after": str(max(1, round(retry_after_s)))} if may_retry else dict(_NO_RETRY)
    return ApiError(503, message, code=code, headers=headers)


def upstream_locked(model: str) -> ApiError:
    """502: the model's upstream does not let this server in; the caller's key has nothing to do with it."""
    message = f"The upstream of model {quoted(model)} refuses this server's credentials."
    return ApiError(502, message, code="upstream_locked", headers=dict(_NO_RETRY))


def deadline_exceeded(limit_s: float) -> ApiError:
    """504: the request's own deadline passed before an answer."""
    message = f"No answer within the deadline of {limit_s:g} s."
    return ApiError(504, message, code="deadline_exceeded", headers=dict(_NO_RETRY))


def interrupted() -> ApiError:
    """The stream broke after its first byte."""
    return ApiError(502, "The model stopped before the answer was complete.", code="upstream_interrupted")


def internal_error() -> ApiError:
    """500: a defect of ours; the log has the trace."""
    return ApiError(500, "Internal error; the server's log has the details.", code="internal_error")


def from_upstream(status: int, body: bytes) -> ApiError:
    """An engine's own 4xx in our shape: its message and param, a string for `code`."""
    message, param, code = "The model refused the request.", None, None
    try:
        detail = orjson.loads(body)
    except orjson.JSONDecodeError:
        detail = None
    if isinstance(detail, dict):
        inner = detail.get("error", detail)
        if isinstance(inner, dict):
            message = str(inner.get("message") or inner.get("detail") or message)[:_MESSAGE_LIMIT]
            param = inner.get("param") if isinstance(inner.get("param"), str) else None
            code = inner.get("code") if isinstance(inner.get("code"), str) else None
    if code == CONTEXT_CODE or (status in (400, 413, 422) and _TOO_LONG.search(message)):
        status, code = 400, CONTEXT_CODE
        if _CONTEXT_WORDS not in message:
            message = f"This model's {_CONTEXT_WORDS} is exceeded: {message}"
    return ApiError(status, message, code=code or "invalid_request", param=param)
