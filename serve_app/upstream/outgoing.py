"""The body as one model gets it: its own name, and defaults for what the caller left out."""

from collections.abc import Mapping

from deployments.logger import get_logger
from deployments.records.operation import OPERATIONS
from deployments.records.snapshot import ModelCard
from serve_app.body.calls import Call
from serve_app.body.strict_json import Body, dump
from serve_app.http.errors import ApiError
from serve_app.metrics import IngressMetrics
from serve_app.upstream.failures import TryFailedError, refuses_usage
from serve_app.upstream.job import Job

logger = get_logger(__name__)

_LIMITS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})


def hides_usage(call: Call) -> bool:
    """Whether a stream's usage is requested for our own count only, and taken out of the answer again."""
    options = call.body.get("stream_options") or {}
    return call.stream and OPERATIONS[call.path].has_stream_options and not options.get("include_usage")


def outgoing(
    call: Call,
    raw: bytes,
    card: ModelCard,
    defaults: Mapping[str, object],
    salt: str,
    *,
    with_limit: bool = True,
    with_usage: bool = True,
) -> bytes:
    """The bytes to send to `card`'s model: the caller's own where nothing has to change.

    `defaults` are the profile's generation defaults; the card's come after them. `with_limit` False leaves
    out their limit on the answer: the caller asked for none, and the prompt leaves no room for it.
    `with_usage` False: a model that does not know `stream_options` gets none that the caller did not send.
    """
    body: Body = call.body
    changes: Body = {}
    if body.get("model") != card.model:  # `auto`, an alias, or a model that cannot answer
        changes["model"] = card.model
    without = frozenset() if with_limit and call.prompt.max_tokens is None else _LIMITS
    for source in (defaults, card.generation_defaults):
        for name, value in source.items():
            if body.get(name) is None and name not in changes and name not in without:
                changes[name] = value
    if card.engine == "vllm" and call.prompt.generates:
        changes["cache_salt"] = salt
    limit = call.prompt.max_tokens
    if limit is not None and limit >= card.context_tokens:
        changes[call.max_tokens_field] = (
            None  # never binds: the engine's own limit, what the prompt leaves, does
        )
    if hides_usage(call) and not with_usage:
        changes["stream_options"] = None
    elif hides_usage(call):
        options = call.body.get("stream_options") or {}
        kept = {name: value for name, value in options.items() if name != "continuous_usage_stats"}
        changes["stream_options"] = {**kept, "include_usage": True}
    if not changes and not call.changed:
        return raw
    whole = body | changes
    if whole.get("stream_options", ...) is None:
        del whole["stream_options"]
    return dump(whole)


def has_default_limit(call: Call, card: ModelCard, defaults: Mapping[str, object]) -> bool:
    """Whether the answer's length is limited by a default, not by the caller."""
    return call.prompt.max_tokens is None and not _LIMITS.isdisjoint({*defaults, *card.generation_defaults})


class Outgoing:
    """The bodies of all requests of one ingress, and what is left out of them where a model refuses it."""

    def __init__(self, metrics: IngressMetrics) -> None:
        self._metrics = metrics
        self._without_usage: set[tuple[str, str]] = set()  # model, revision: knows no `stream_options`

    def of(self, job: Job, card: ModelCard) -> bytes:
        """What the model is sent."""
        return outgoing(
            job.call,
            job.raw,
            card,
            job.dispatch.profile.generation_defaults,
            job.key.cache_salt,
            with_limit=job.with_limit,
            with_usage=(card.model, card.revision) not in self._without_usage,
        )

    def leave_out_limit(self, job: Job, card: ModelCard) -> bool:
        """Whether the prompt may fit without the default limit on the answer, left out in the next try."""
        defaults = job.dispatch.profile.generation_defaults
        left_out = job.with_limit and has_default_limit(job.call, card, defaults)
        job.with_limit = not left_out
        return left_out

    def leave_out_usage(self, job: Job, card: ModelCard, error: TryFailedError | ApiError) -> bool:
        """Whether the model may answer where it is not asked for usage; its tokens are counted here then."""
        refusal = error if isinstance(error, ApiError) else error.refusal
        name = (card.model, card.revision)
        if refusal is None or name in self._without_usage or not hides_usage(job.call):
            return False
        if not refuses_usage(refusal):
            return False
        self._without_usage.add(name)
        self._metrics.degraded("usage refused")
        logger.warning(
            "'%s' refuses 'stream_options', its tokens are estimated: %s", card.model, refusal.message
        )
        return True
