"""Configuration of the ingress: what is fixed while it runs, and what `user_config` changes live."""

from typing import Self

from pydantic import Field, model_validator

from deployments.dispatch.settings import DispatchSettings
from deployments.records.budget import Budget
from policies.strict import StrictModel


class Caps(StrictModel):
    """Bounds on one request; a number over its cap is answered 400, with the field's name in `param`."""

    # Allow at most this many choices (`n`) in one request; at least 1.
    n: int = Field(default=8, ge=1)
    # Allow at most this many alternatives per token (`top_logprobs`); 0 forbids them.
    top_logprobs: int = Field(default=20, ge=0)
    # Allow at most this many entries in `logit_bias`; 0 forbids it.
    logit_bias: int = Field(default=300, ge=0)
    # Allow at most this many stop sequences; 0 forbids them.
    stop: int = Field(default=16, ge=0)
    # Allow at most this many characters in one stop sequence; at least 1.
    stop_chars: int = Field(default=1024, ge=1)
    # Allow at most this many entries in `bad_words`; 0 forbids it.
    bad_words: int = Field(default=128, ge=0)
    # Allow at most this many messages in one chat; at least 1.
    messages: int = Field(default=4096, ge=1)
    # Allow at most this many tools in one request; 0 forbids them.
    tools: int = Field(default=128, ge=0)
    # Allow at most this many prompts in one completion request; at least 1.
    prompts: int = Field(default=128, ge=1)
    # Allow at most this many texts in one embedding request; at least 1.
    embedding_inputs: int = Field(default=2048, ge=1)
    # Allow at most this many bytes in one JSON schema, that of an answer or of a tool.
    schema_bytes: int = Field(default=262_144, ge=0)
    # Allow at most this many levels of nesting in a JSON schema; at least 1.
    schema_depth: int = Field(default=32, ge=1)
    # Allow at most this many images, audio clips and videos in one request; 0 forbids them.
    media_parts: int = Field(default=16, ge=0)
    # List hosts that a model may fetch media from, in small letters, by port 80 or 443; give the same hosts
    # to the model in `engine_args: {allowed-media-domains: [...]}`. Empty: `data:` URLs only.
    media_domains: tuple[str, ...] = Field(default=(), examples=[["images.example.org"]])
    # Allow at most this many characters over all texts of one request; at least 1.
    text_chars: int = Field(default=8_000_000, ge=1)


class Deadlines(StrictModel):
    """Time limits of one request, in seconds."""

    # End a request after this many seconds in all; a caller may ask for less, never for more.
    request_s: float = Field(default=300.0, gt=0)
    # Try another replica, where there is one, when a stream has no token after this many seconds and three
    # times what reading the prompt is predicted to take; counted for each try.
    first_byte_s: float = Field(default=60.0, gt=0)
    # Try another replica, where there is one, when a plain answer takes longer than this many seconds and
    # three times what reading the prompt is predicted to take; counted for each try. The last try has until
    # the end of the request.
    try_s: float = Field(default=120.0, gt=0)
    # End a stream, with an error event, when it has sent nothing for this many seconds, unless its engine is
    # in the middle of a long step.
    idle_s: float = Field(default=30.0, gt=0)
    # Give up a replica, and the tries that run on it, when it has not reported for this many seconds; where
    # no other replica could take them, or they have begun to answer, after 12 at the least.
    silent_s: float = Field(default=3.0, gt=0)
    # Keep a request for a model that sleeps waiting for this many seconds while the model starts, if it is
    # expected to serve by then; else answer 503, with `retry-after`, at once. 0: never wait.
    wake_s: float = Field(default=60.0, ge=0)
    # Close a stream whose client has read nothing for this many seconds.
    reader_s: float = Field(default=30.0, gt=0)
    # Try another replica when one does not accept a connection within this many seconds.
    connect_s: float = Field(default=2.0, gt=0)


class Retries(StrictModel):
    """Bounds on repeated tries, so that a failing pool is not hit harder for it."""

    # Repeat one request at most this many times; 0 switches retries off.
    per_request: int = Field(default=3, ge=0)
    # Keep retries below this share, in [0, 1], of the requests of the last 10 s.
    share: float = Field(default=0.1, ge=0, le=1)
    # Always allow this many retries in 10 s, however few requests there were.
    floor: int = Field(default=10, ge=0)
    # Ask a second replica of the model beside the first one when the first token, or a plain answer, is later
    # than 95 % of them were of late; within the same budget. Off: a slow replica is waited for.
    hedging: bool = True


class TeamSettings(StrictModel):
    """What the keys of one team share."""

    # Answer 429 once all keys of the team have spent this many US dollars in a window. Default: no limit.
    budget: Budget | None = Field(default=None, examples=[{"usd": 200, "window": "month"}])


class TracingSettings(StrictModel):
    """Traces by OpenTelemetry; `OTEL_EXPORTER_OTLP_HEADERS` holds headers that a collector asks for."""

    # Send spans to this URL, by OTLP over HTTP. Default: none, and nothing is traced.
    endpoint: str | None = Field(
        default=None, pattern=r"^https?://\S+$", examples=["http://127.0.0.1:4318/v1/traces"]
    )
    # Trace this share, in [0, 1], of the requests without a `traceparent`; the sender of one decides itself.
    share: float = Field(default=0.1, ge=0, le=1)


class GradingSettings(StrictModel):
    """Graded live prompts during a canary; opt-in. Only scores are kept, no text."""

    # Grade this share, in [0, 1], of the answered `auto` chats on which the versions choose differently: both
    # models are asked again and the answers judged, while they are idle. 0 grades none.
    share: float = Field(default=0.0, ge=0, le=1, examples=[0.02])
    # Let this model judge the answers; it is told the conversation. Required to grade any.
    judge: str = Field(default="", examples=["large"])
    # Ask a model only while at most this share, in [0, 1], of its slots is in use.
    idle_share: float = Field(default=0.25, ge=0, le=1)

    @model_validator(mode="after")
    def _has_a_judge(self) -> Self:
        if self.share > 0.0 and not self.judge:
            raise ValueError("judge: empty, must name a model of the pool where `share` is above 0.")
        return self


class IngressSettings(StrictModel):
    """`user_config` of deployment Ingress: all of it changes live and restarts nothing."""

    # Set how `auto` chooses a model.
    dispatch: DispatchSettings = DispatchSettings()
    # Set bounds on one request.
    caps: Caps = Caps()
    # Set time limits of one request.
    deadlines: Deadlines = Deadlines()
    # Set how often a failed try is repeated.
    retries: Retries = Retries()
    # Teams by name; `team` of a key says which one it belongs to.
    teams: dict[str, TeamSettings] = Field(default_factory=dict)
    # Name the model with whose prices savings are reckoned: what each request's tokens would have cost there.
    # Default: none, and no savings are shown.
    baseline_model: str | None = Field(default=None, examples=["large"])
    # List the browser origins that may call the endpoint; `*` is any. Empty: none.
    cors_origins: tuple[str, ...] = Field(default=(), examples=[["https://app.example.org"]])
    # Write one JSON line a request, without any text of it, beside the log of each ingress replica.
    request_log: bool = False
    # Send traces of requests to a collector.
    tracing: TracingSettings = TracingSettings()
    # Grade a share of the live prompts during a canary.
    grading: GradingSettings = GradingSettings()
    # Send `x-fastserve-feedback-token` with each answer: its holder may vote on that answer without a key.
    feedback_tokens: bool = True


class IngressConfig(StrictModel):
    """`args` of the app `fastserve`: a change restarts the replicas of all its deployments."""

    # Reserve this many CPUs for each ingress replica.
    num_cpus: float = Field(default=0.5, ge=0)
    # Answer 413 to a request body above this many bytes; at least 1024.
    body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    # Answer 503 to a request body when all bodies under way in one ingress replica would come to more bytes
    # of memory than this, read, parsed and sent on, or several of one key to more than half. A body of plain
    # text takes up to four times its own bytes.
    bodies_bytes: int = Field(default=448 * 1024 * 1024, ge=1024)
    # Give a request body this many seconds to arrive; answer 408 where it takes longer and comes slower than
    # `body_bytes_per_s`.
    body_s: float = Field(default=10.0, gt=0)
    # Let a body that takes longer than `body_s` go on while it comes at this many bytes/s from then on.
    body_bytes_per_s: int = Field(default=65_536, ge=1)
    # Answer 429 above this many requests in one ingress replica; at least 1.
    max_in_flight: int = Field(default=2048, ge=1)
    # Let the streams of a leaving replica go on for at most this many seconds.
    drain_s: float = Field(default=60.0, ge=0)
    # Run the Evaluator in this app: it asks every model the suites and grades the answers.
    evaluator: bool = False
    # Run the Learner in this app: it trains, tests and promotes versions of the policy.
    learner: bool = False


class DashboardConfig(StrictModel):
    """`args` of the app `dashboard`: a change restarts its one replica and nothing else."""

    # Reserve this many CPUs for its replica.
    num_cpus: float = Field(default=0.1, ge=0)
    # End a sign-in after this many seconds; at least 60.
    session_s: float = Field(default=43_200.0, ge=60)
    # Keep this many of the newest decisions at hand for lists and charts; at least 100.
    decisions: int = Field(default=2000, ge=100)
    # Send the playground's requests to this URL. Default: to any live ingress replica.
    endpoint_url: str | None = Field(
        default=None, pattern=r"^https?://[^/]+$", examples=["http://10.0.0.7:8000"]
    )
