"""Endpoints of an OpenAI-compatible HTTP server: pictures as base64 or URL, retries and errors."""

import base64
import io
import time

import pytest
from PIL import Image

from jigsaw.errors import JigsawError
from jigsaw.realunify.endpoint import Endpoint, RefusedError, split_spec
from jigsaw.realunify.plugins import load_function

pytest.importorskip("openai")

RED = (255, 0, 0)


def png(colour=RED, mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, (8, 6), colour).save(stream, "PNG")
    return stream.getvalue()


def base64_of(data):
    return base64.b64encode(data).decode()


def endpoint(server, **changes):
    return Endpoint("--generator", server.url, "painter", **({"timeout": 5.0} | changes))


@pytest.mark.parametrize(
    "answer",
    [
        {"b64_json": base64_of(png())},
        {"b64_json": "data:image/png;base64," + base64_of(png())},
        {"url": "/files/a.png"},
        {"url": "data:image/png;base64," + base64_of(png())},
    ],
    ids=["base64", "base64 as data URI", "address", "address as data URI"],
)
def test_a_generated_picture_is_read_in_each_format(server, answer):
    server.routes["/v1/images/generations"] = lambda _: (200, {"created": 1, "data": [answer]})
    server.routes["/files/a.png"] = lambda _: (200, png())
    image = endpoint(server).draw("a red wall")
    assert (image.size, image.mode, image.getpixel((3, 3))) == ((8, 6), "RGB", RED)
    assert server.requests[0].json == {"model": "painter", "prompt": "a red wall", "n": 1}


def test_the_api_key_is_not_sent_to_the_url_of_a_picture(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server.routes["/v1/images/generations"] = lambda _: (200, {"data": [{"url": "/files/a.png"}]})
    server.routes["/files/a.png"] = lambda _: (200, png())
    endpoint(server).draw("x")
    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer secret", None]


def test_an_editor_gets_the_picture_and_the_prompt(server):
    server.routes["/v1/images/edits"] = lambda _: (200, {"data": [{"b64_json": base64_of(png((0, 0, 255)))}]})
    edit = load_function(f"painter@{server.url}", "--editor")
    assert edit(Image.new("RGB", (4, 4), "red"), "make it blue").getpixel((0, 0)) == (0, 0, 255)
    body = server.requests[0].body
    assert b"make it blue" in body
    assert b"\x89PNG" in body
    assert b"painter" in body


def test_transparent_pixels_become_white(server):
    data = png((255, 0, 0, 0), "RGBA")
    server.routes["/v1/images/generations"] = lambda _: (200, {"data": [{"b64_json": base64_of(data)}]})
    assert endpoint(server).draw("x").getpixel((0, 0)) == (255, 255, 255)


def test_a_request_to_a_busy_server_is_retried(server):
    answers = iter([(503, {}), (429, {}), (200, {"data": [{"b64_json": base64_of(png())}]})])
    server.routes["/v1/images/generations"] = lambda _: next(answers)
    assert endpoint(server).draw("x").size == (8, 6)
    assert len(server.requests) == 3


def test_the_download_of_a_picture_is_retried(server):
    answers = iter([(500, b""), (200, png())])
    server.routes["/v1/images/generations"] = lambda _: (200, {"data": [{"url": "/files/a.png"}]})
    server.routes["/files/a.png"] = lambda _: next(answers)
    assert endpoint(server).draw("x").size == (8, 6)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((400, {"error": {"message": "no model painter\nsorry"}}), "refuses with 400 Bad Request: no model painter"),
        ((401, {}), "refuses with 401 Unauthorized"),
        ((200, {"data": []}), "answered without a picture"),
        ((200, {"data": [{"revised_prompt": "x"}]}), "answered without a picture"),
        ((200, {"data": [{"b64_json": "%%%"}]}), "cannot be read"),
        ((200, {"data": [{"b64_json": base64_of(b"no picture")}]}), "cannot be read"),
        ((200, {"data": [{"b64_json": base64_of(png()[:40])}]}), "cannot be read"),
        ((200, {"data": [{"url": "/files/gone.png"}]}), "/files/gone.png cannot be fetched"),
        ((200, {"data": [{"url": "ftp://x/a.png"}]}), "ftp://x/a.png cannot be fetched"),
        ((200, b"<html>"), "does not answer as an OpenAI-compatible server"),
    ],
)
def test_the_error_for_a_failed_request_names_the_option(server, answer, message):
    server.routes["/v1/images/generations"] = lambda _: answer
    with pytest.raises(JigsawError) as error:
        endpoint(server, tries=1).draw("x")
    text = str(error.value)
    assert text.startswith("--generator: ")
    assert message in text
    assert "\n" not in text


def test_a_slow_and_an_unreachable_server_are_errors(server):
    server.routes["/v1/images/generations"] = lambda _: (time.sleep(1), (200, {}))[1]
    with pytest.raises(JigsawError, match=r"did not answer within 0\.1 s"):
        endpoint(server, timeout=0.1, tries=1).draw("x")
    with pytest.raises(JigsawError, match="cannot be reached"):
        Endpoint("--editor", "http://127.0.0.1:9/v1", "x", tries=1).draw("x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Endpoint("--editor", "localhost", "x"), "'localhost' is not an address"),
        (lambda: load_function("@http://127.0.0.1:1/v1", "--editor"), "the model's name is missing"),
    ],
)
def test_an_invalid_address_is_refused(make, message):
    with pytest.raises(JigsawError, match=message):
        make()


def test_a_declined_request_has_a_separate_error(server):
    error = {"error": {"message": "not allowed", "code": "moderation_blocked"}}
    server.routes["/v1/images/generations"] = lambda _: (400, error)
    with pytest.raises(RefusedError, match="not allowed"):
        endpoint(server).draw("x")


def test_a_chat_model_answers_the_rows_in_order(server):
    def answer(request):
        parts = request.json["messages"][0]["content"]
        return 200, {"choices": [{"message": {"content": f"{parts[-1]['text']} {parts[0]['type']}"}}]}

    server.routes["/v1/chat/completions"] = answer
    image = Image.new("RGB", (2, 2))
    content = [[{"type": "image"}, {"type": "text", "text": str(number)}] for number in range(20)]
    rows = [{"prompt": [{"role": "user", "content": one}], "images": [image]} for one in content]
    texts = endpoint(server).answer(rows, max_completion_tokens=7)
    assert texts == [[f"{number} image_url"] for number in range(20)]
    assert server.requests[0].json["max_completion_tokens"] == 7


def test_a_plug_in_is_not_parsed_as_an_endpoint():
    assert split_spec("a@b.py:edit") is None
    assert split_spec("org/x@https://h/v1") == ("org/x", "https://h/v1")
