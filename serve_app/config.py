"""Configuration of the ingress: what is fixed while it runs, and what `user_config` changes live."""

from pydantic import Field

from deployments.dispatch.settings import DispatchSettings
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
    # List hosts that a model may fetch media from. Empty: `data:` URLs only.
    media_domains: tuple[str, ...] = Field(default=(), examples=[["images.example.org"]])
    # Allow at most this many characters over all texts of one request; at least 1.
    text_chars: int = Field(default=8_000_000, ge=1)


class Deadlines(StrictModel):
    """Time limits of one request, in seconds, each above 0."""

    # End a request after this many seconds in all; a caller may ask for less, never for more.
    request_s: float = Field(default=300.0, gt=0)
    # Try another replica, where there is one, when a stream has no token after this many seconds; counted for
    # each try.
    first_byte_s: float = Field(default=60.0, gt=0)
    # Try another replica, where there is one, when a plain answer takes longer than this many seconds;
    # counted for each try. The last try has until the end of the request.
    try_s: float = Field(default=120.0, gt=0)
    # End a stream, with an error event, when it has sent nothing for this many seconds.
    idle_s: float = Field(default=30.0, gt=0)
    # Give up a replica, and the tries that run on it, when it has not reported for this many seconds.
    silent_s: float = Field(default=3.0, gt=0)
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


class KeyLimits(StrictModel):
    """Limits of one API key, counted by each ingress replica for itself; absent or null: no limit."""

    # Answer 429 above this many requests a second. Default: no limit.
    requests_per_s: float | None = Field(default=None, gt=0, examples=[5])
    # Answer 429 above this many requests at once. Default: no limit.
    concurrency: int | None = Field(default=None, ge=0, examples=[8])
    # Answer 429 above this many prompt and output tokens a minute. Default: no limit.
    tokens_per_min: int | None = Field(default=None, ge=0, examples=[60000])
    # Answer 429 once this many US dollars are spent in a day (UTC). Default: no limit.
    usd_per_day: float | None = Field(default=None, ge=0, examples=[10])
    # List the ids of the models that the key may use. Default: all.
    models: tuple[str, ...] | None = Field(default=None, examples=[["smollm2-135m"]])


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
    # List the browser origins that may call the endpoint; `*` is any. Empty: none.
    cors_origins: tuple[str, ...] = Field(default=(), examples=[["https://app.example.org"]])
    # Send `x-fastserve-feedback-token` with each answer: its holder may vote on that answer without a key.
    feedback_tokens: bool = True


class IngressConfig(StrictModel):
    """`args` of the app `fastserve`: a change restarts the replicas of all its deployments."""

    # Reserve this many CPUs for each ingress replica.
    num_cpus: float = Field(default=0.5, ge=0)
    # Answer 413 to a request body above this many bytes; at least 1024.
    body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    # Answer 503 to a request body when all bodies under way in one ingress replica would come to more bytes
    # than this; the replica's memory grows by up to four times as much.
    bodies_bytes: int = Field(default=128 * 1024 * 1024, ge=1024)
    # Answer 408 to a request body that takes longer than this many seconds to arrive.
    body_s: float = Field(default=30.0, gt=0)
    # Answer 429 above this many requests in one ingress replica; at least 1.
    max_in_flight: int = Field(default=2048, ge=1)
    # Let the streams of a leaving replica go on for at most this many seconds.
    drain_s: float = Field(default=60.0, ge=0)
    # Run the Evaluator in this app: it asks every model the suites and grades the answers.
    evaluator: bool = False
    # Run the Learner in this app: it trains, tests and promotes versions of the policy.
    learner: bool = False
