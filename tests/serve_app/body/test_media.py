"""URLs of media: one reading, written anew, and found wherever a part may hide one."""

import pytest

from serve_app.body.calls import Calls
from serve_app.body.media import rebuilt
from serve_app.config import Caps
from serve_app.http.errors import ApiError

HOST = "images.example"
CALLS = Calls(Caps(media_domains=(HOST,)))
INSIDE = "http://127.0.0.1:9/x"


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("https://images.example/x.png", "https://images.example/x.png"),
        ("HTTPS://Images.Example:443/a%20b?c=d#e", "https://images.example:443/a%20b?c=d"),
        ("http://images.example", "http://images.example/"),
        ("http://images.example?x=/y", "http://images.example/?x=/y"),
        ("data:image/png;base64,x", "data:image/png;base64,x"),
    ],
)
def test_a_url_is_written_anew_from_its_parts(url, written):
    assert rebuilt(url, "p", [HOST]) == written
    assert rebuilt(written, "p", [HOST]) == written


@pytest.mark.parametrize(
    "url",
    [
        INSIDE,
        "https://images.example.evil/x",
        "https://images.example@127.0.0.1/x",
        "https://127.0.0.1\\@images.example/x",
        "https://images.example\\@127.0.0.1/x",
        "https://127.0.0.1#@images.example/",
        "https://images.example:22/x",
        "https://images.example:80:80/x",
        "https://images.example/\t",
        "https://images.example/\n",
        "https://images.example\n.evil/x",
        " https://images.example/x",
        "https:images.example/x",
        "https:///images.example/x",
        "//images.example/x",
        "ftp://images.example/x",
        "file:///etc/passwd",
        "https://[::1]/x",
        "https://images。example/x",
        "https://ımages.example/x",
        "DATA:image/png;base64,x",
        "",
    ],
)
def test_a_url_of_which_two_readings_are_possible_is_refused(url):
    with pytest.raises(ApiError) as caught:
        rebuilt(url, "p", [HOST])
    assert (caught.value.status, caught.value.param) == (400, "p")


def chat(*content):
    return CALLS.chat, {"messages": [{"role": "user", "content": list(content)}]}


def response(*items):
    return CALLS.response, {"input": list(items)}


@pytest.mark.parametrize(
    ("build", "body"),
    [
        chat({"type": "image_url", "image_url": {"url": INSIDE}}),
        chat({"type": "image_url", "image_url": INSIDE}),
        chat({"type": "video_url", "video_url": {"url": INSIDE}}),
        chat({"type": "text", "text": "x", "uuid": "1", "image_url": INSIDE}),
        chat({"type": "input_audio", "input_audio": {"data": "x"}, "audio_url": {"url": INSIDE}}),
        response({"role": "user", "content": [{"type": "input_image", "image_url": INSIDE}]}),
        response({"role": "user", "content": [{"type": "input_file", "file_url": INSIDE}]}),
        response(
            {
                "type": "function_call_output",
                "call_id": "c",
                "output": [{"type": "input_image", "image_url": INSIDE}],
            }
        ),
        response({"type": "computer_call_output", "output": {"image_url": INSIDE}}),
        response({"type": "x", "a": [{"b": [{"c": {"video_url": {"url": INSIDE}}}]}]}),
        response({"type": "x", "image_url": 5}),
        (CALLS.response, {"input": "x", "previous_input_messages": []}),
        (CALLS.embedding, {"input": "x", "messages": []}),
    ],
)
def test_a_url_inside_is_found_wherever_it_stands(build, body):
    with pytest.raises(ApiError) as caught:
        build({"model": "m", **body})
    assert caught.value.status == 400


def test_what_the_engine_gets_is_what_was_checked():
    part = {"type": "image_url", "image_url": {"url": "HTTPS://Images.Example/x#y"}}
    build, body = chat(part)
    made = build({"model": "m", **body})
    assert made.changed
    assert part["image_url"]["url"] == "https://images.example/x"
    assert made.prompt.needs == {"chat", "vision"}


def test_media_in_outputs_of_tools_count():
    image = {"type": "input_image", "image_url": "data:image/png;base64,x"}
    build, body = response({"type": "function_call_output", "output": [image] * 17})
    with pytest.raises(ApiError, match="more than 16 media"):
        build({"model": "m", **body})
    build, body = response({"type": "function_call_output", "output": [image]})
    assert build({"model": "m", **body}).prompt.needs == {"chat", "vision"}
