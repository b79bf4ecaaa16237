"""The client of a vLLM server: what it asks, what it accepts. A server over real HTTP that answers by rote."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from made_rows import ROWS, made_clip, made_row
from PIL import Image
from safetensors.torch import load_file

from jigsaw.engines import Sampling
from jigsaw.engines.serving import Address
from jigsaw.engines.weights import Policy
from jigsaw.errors import JigsawError
from jigsaw.models.load import load_model, load_processor, vision_token_ids
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import processor_inputs
from jigsaw.tasks import Clip

pytest.importorskip("vllm")  # TRL's client wants it

from jigsaw.engines.vllm_server import VllmServer


class Rote(ThreadingHTTPServer):
    """Reads prompts with the trainer's processor, as a server with the same checkpoint does, and samples 7, 8, ..."""

    def __init__(self, processor: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.processor, self.asked, self.other_prompt, self.sampled = processor, [], False, 7

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        row = received(body)
        ids = processor_inputs(self.processor, [row])["input_ids"][0].tolist()
        choices = [
            {
                "token_ids": [self.sampled + number],
                "logprobs": {"content": [{"token": f"token_id:{self.sampled + number}", "logprob": -0.5 - number,
                                          "top_logprobs": []}]},
            }
            for number in range(body["n"])
        ]  # fmt: skip
        return {"prompt_token_ids": ids + [1] * self.other_prompt, "choices": choices}


class _Handler(BaseHTTPRequestHandler):
    server: Rote

    def do_GET(self) -> None:
        self._tell({"data": [{"id": "policy"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
        self.server.asked.append((self.path, body))
        self._tell(self.server.answer(body) if self.path == "/v1/chat/completions" else {"success": True})

    def _tell(self, found: Any) -> None:
        data = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


def received(body: dict[str, Any]) -> dict[str, Any]:
    """The row that a request stands for: placeholders in place of its media."""
    images, videos, messages = [], [], []
    for message in body["messages"]:
        content = []
        for part in message["content"]:
            if part["type"] == "image_url":
                images.append(picture(part["image_url"]["url"].removeprefix("data:image/png;base64,")))
            elif part["type"] == "video_url":
                frames = part["video_url"]["url"].removeprefix("data:video/jpeg;base64,").split(",")
                fps = body["media_io_kwargs"]["video"]["fps"]
                pixels = np.stack([np.asarray(picture(frame)) for frame in frames])
                videos.append(Clip(frames=pixels, times=np.arange(len(frames)) / fps, fps=fps))
            content.append({"type": part["type"].removesuffix("_url")} if part["type"] != "text" else part)
        messages.append({"role": message["role"], "content": content})
    return {"id": "received", "prompt": messages, "images": images, "videos": videos}


def picture(data: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(data)))


@pytest.fixture
def rote(processor) -> Iterator[Rote]:
    with Rote(processor) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def client(rote, processor, tmp_path) -> VllmServer:
    address = Address("127.0.0.1", rote.server_address[1])
    return VllmServer(address, processor, dtype="float32", room=2048, folder=tmp_path / "weights")


def asked_about(rote: Rote) -> list[dict[str, Any]]:
    return [body for path, body in rote.asked if path == "/v1/chat/completions"]


@pytest.fixture
def prompts(model, processor):
    return PromptBatch.encode(model, processor, ROWS["image"], "cpu")


def test_a_request_holds_one_part_per_medium_and_its_very_pixels(client, rote, processor, model):
    rows = [*ROWS["image"], ROWS["mixed"][0], ROWS["video"][0]]
    settings = Sampling(
        count=3,
        max_tokens=5,
        temperature=0.7,
        seeds=tuple(range(len(rows))),
        end_tokens=(7, 9),
        forbidden_tokens=tuple(vision_token_ids(processor)),
    )
    found = client.generate(rows, settings, PromptBatch.encode(model, processor, rows, "cpu"))
    assert found.tokens == [[7], [8], [9]] * len(rows)
    assert found.log_probabilities == [[-0.5], [-1.5], [-2.5]] * len(rows)
    bodies = sorted(asked_about(rote), key=lambda body: body["seed"])
    for row, body in zip(rows, bodies, strict=True):
        got = received(body)
        assert [(message["role"], message["content"]) for message in got["prompt"]] == [
            (message["role"], message["content"]) for message in row["prompt"]
        ]
        for ours, theirs in zip(row["images"], got["images"], strict=True):
            assert np.array_equal(ours, theirs)
        for ours, theirs in zip(row["videos"], got["videos"], strict=True):
            assert np.array_equal(ours.frames, theirs.frames) and ours.fps == theirs.fps
        assert (body["n"], body["max_tokens"], body["temperature"], body["repetition_penalty"]) == (3, 5, 0.7, 1.0)
        assert (body["top_p"], body["top_k"], body["min_p"], body["logprobs"]) == (1.0, 0, 0.0, True)
        assert body["stop_token_ids"] == [7, 9]
        assert body["logit_bias"] == {str(token): -100.0 for token in vision_token_ids(processor)}


ONE = Sampling(max_tokens=1, seeds=(0, 1))


def test_a_clip_of_neo_goes_as_images_with_their_times(neo_checkpoint, rote, tmp_path):
    """NEO has no videos: the server gets what the trainer's processor makes of a clip."""
    processor = rote.processor = load_processor(neo_checkpoint)
    address = Address("127.0.0.1", rote.server_address[1])
    client = VllmServer(address, processor, dtype="float32", room=2048, folder=tmp_path)
    prompts = PromptBatch.encode(load_model(neo_checkpoint), processor, ROWS["video"], "cpu")
    client.generate(ROWS["video"], ONE, prompts)  # compares the prompts
    bodies = sorted(asked_about(rote), key=lambda body: body["seed"])
    for row, body in zip(ROWS["video"], bodies, strict=True):
        kinds = [part["type"] for message in body["messages"] for part in message["content"]]
        assert "video_url" not in kinds
        frames = [frame for clip in row["videos"] for frame in clip.frames]
        for frame, image in zip(frames, received(body)["images"], strict=True):
            assert np.array_equal(frame, image)


def test_greedy_requests_have_temperature_zero_and_no_seed(client, rote):
    client.generate(ROWS["image"][:1], Sampling(max_tokens=1, temperature=0.0))
    (body,) = asked_about(rote)
    assert body["temperature"] == 0.0 and "seed" not in body


def test_another_prompt_than_the_trainers_is_refused(client, rote, prompts):
    rote.other_prompt = True
    with pytest.raises(JigsawError, match="row i0: vLLM read a prompt of"):
        client.generate(ROWS["image"], ONE, prompts)


def test_a_sampled_vision_token_is_refused(client, rote, processor, prompts):
    forbidden = tuple(vision_token_ids(processor))
    rote.sampled = forbidden[0]
    with pytest.raises(JigsawError, match="row i0: vLLM sampled a vision token"):
        client.generate(ROWS["image"], replace(ONE, forbidden_tokens=forbidden), prompts)


def test_clips_of_unlike_rates_are_refused_with_the_remedy(client, processor):
    row = made_row("odd", made_clip(1, fps=2.0), made_clip(2, fps=3.0))
    with pytest.raises(JigsawError, match=r"row odd: .*unlike frame rates.*rollout.mode=colocate"):
        client.generate([row], replace(ONE, seeds=(0,)))


def test_weights_without_a_gpu_go_through_a_file_and_caches_are_dropped(client, rote, model, tmp_path):
    client.sync(Policy(model))
    client.sync(Policy(model))  # the same weights: nothing is sent again
    assert rote.asked == [
        ("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path / "weights")}}),
        ("/reset_prefix_cache", {}),
        ("/reset_encoder_cache", {}),
    ]
    sent = load_file(tmp_path / "weights" / "model.safetensors")
    assert all(sent[name].equal(weight) for name, weight in model.named_parameters())


def test_completions_that_were_begun_come_from_the_weights_of_then(client, rote, model, prompts):
    """Given a batch under way, then new weights wait for it, and it is not asked for again."""
    answer, under_way = rote.answer, threading.Event()

    def slowly(body):
        under_way.wait(10)
        return answer(body)

    rote.answer = slowly
    client.sync(Policy(model, version=0))
    client.begin(ROWS["image"], ONE)
    threading.Timer(0.3, under_way.set).start()
    client.sync(Policy(model, version=1))
    order = [path for path, _ in rote.asked]
    assert order.count("/collective_rpc") == 2 and order[-3:] == [
        "/collective_rpc", "/reset_prefix_cache", "/reset_encoder_cache"
    ]  # fmt: skip
    assert client.generate(ROWS["image"], ONE, prompts).tokens == [[7], [7]]
    assert len(asked_about(rote)) == 2


def test_a_server_that_fails_is_named_in_one_line(client, rote, processor):
    rote.answer = lambda body: {"prompt_token_ids": [], "choices": None}
    with pytest.raises(JigsawError, match=r"the vLLM server at http://127.0.0.1:\d+ failed: "):
        client.generate(ROWS["image"], ONE)


def test_a_prompt_without_room_for_its_completion_is_refused_before_it_is_sent(client, rote, prompts):
    with pytest.raises(JigsawError, match=r"row i0: its prompt of .* rollout\.max_model_len=2048; set it to"):
        client.generate(ROWS["image"], replace(ONE, max_tokens=2048), prompts)
    assert asked_about(rote) == []
