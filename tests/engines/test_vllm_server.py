"""The client of a vLLM server: its requests, its checks of responses, and weight updates, with a fake HTTP server."""

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
from PIL import Image
from safetensors.torch import load_file
from synthetic_rows import ROWS, synthetic_clip, synthetic_row

from jigsaw.engines import Sampling
from jigsaw.engines.serving import Address
from jigsaw.engines.weights import Policy
from jigsaw.errors import JigsawError
from jigsaw.models.load import load_model, load_processor, vision_token_ids
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import processor_inputs
from jigsaw.tasks import Clip

pytest.importorskip("vllm")  # TRL's client needs it

from jigsaw.engines.vllm_server import VllmServer


class FakeServer(ThreadingHTTPServer):
    """A fake server that reads prompts with the trainer's processor and samples the tokens 7, 8, ..."""

    def __init__(self, processor: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.processor, self.requests, self.other_prompt, self.sampled = processor, [], False, 7

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        row = row_of(body)
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
    server: FakeServer

    def do_GET(self) -> None:
        self._respond({"data": [{"id": "policy"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
        self.server.requests.append((self.path, body))
        self._respond(self.server.answer(body) if self.path == "/v1/chat/completions" else {"success": True})

    def _respond(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""


def row_of(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the row of a request, with placeholders for its media in the prompt."""
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
def server(processor) -> Iterator[FakeServer]:
    with FakeServer(processor) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def client(server, processor, tmp_path) -> VllmServer:
    address = Address("127.0.0.1", server.server_address[1])
    return VllmServer(address, processor, dtype="float32", room=2048, folder=tmp_path / "weights")


def completion_requests(server: FakeServer) -> list[dict[str, Any]]:
    return [body for path, body in server.requests if path == "/v1/chat/completions"]


@pytest.fixture
def prompts(model, processor):
    return PromptBatch.encode(model, processor, ROWS["image"], "cpu")


def test_a_request_has_one_part_per_medium_with_the_same_pixels(client, server, processor, model):
    rows = [*ROWS["image"], ROWS["mixed"][0], ROWS["video"][0]]
    settings = Sampling(
        count=3,
        max_tokens=5,
        temperature=0.7,
        seeds=tuple(range(len(rows))),
        end_tokens=(7, 9),
        forbidden_tokens=tuple(vision_token_ids(processor)),
    )
    completions = client.generate(rows, settings, PromptBatch.encode(model, processor, rows, "cpu"))
    assert completions.tokens == [[7], [8], [9]] * len(rows)
    assert completions.log_probabilities == [[-0.5], [-1.5], [-2.5]] * len(rows)
    bodies = sorted(completion_requests(server), key=lambda body: body["seed"])
    for row, body in zip(rows, bodies, strict=True):
        sent = row_of(body)
        assert [(message["role"], message["content"]) for message in sent["prompt"]] == [
            (message["role"], message["content"]) for message in row["prompt"]
        ]
        for original, received in zip(row["images"], sent["images"], strict=True):
            assert np.array_equal(original, received)
        for original, received in zip(row["videos"], sent["videos"], strict=True):
            assert np.array_equal(original.frames, received.frames) and original.fps == received.fps
        assert (body["n"], body["max_tokens"], body["temperature"], body["repetition_penalty"]) == (3, 5, 0.7, 1.0)
        assert (body["top_p"], body["top_k"], body["min_p"], body["logprobs"]) == (1.0, 0, 0.0, True)
        assert body["stop_token_ids"] == [7, 9]
        assert body["logit_bias"] == {str(token): -100.0 for token in vision_token_ids(processor)}


ONE = Sampling(max_tokens=1, seeds=(0, 1))


def test_a_clip_of_neo_is_sent_as_images_with_their_times(neo_checkpoint, server, tmp_path):
    """NEO has no videos, so the server gets the frames that the trainer's processor makes of a clip."""
    processor = server.processor = load_processor(neo_checkpoint)
    address = Address("127.0.0.1", server.server_address[1])
    client = VllmServer(address, processor, dtype="float32", room=2048, folder=tmp_path)
    prompts = PromptBatch.encode(load_model(neo_checkpoint), processor, ROWS["video"], "cpu")
    client.generate(ROWS["video"], ONE, prompts)  # it compares the prompts
    bodies = sorted(completion_requests(server), key=lambda body: body["seed"])
    for row, body in zip(ROWS["video"], bodies, strict=True):
        kinds = [part["type"] for message in body["messages"] for part in message["content"]]
        assert "video_url" not in kinds
        frames = [frame for clip in row["videos"] for frame in clip.frames]
        for frame, image in zip(frames, row_of(body)["images"], strict=True):
            assert np.array_equal(frame, image)


def test_greedy_requests_have_temperature_zero_and_no_seed(client, server):
    client.generate(ROWS["image"][:1], Sampling(max_tokens=1, temperature=0.0))
    (body,) = completion_requests(server)
    assert body["temperature"] == 0.0 and "seed" not in body


def test_a_prompt_that_differs_from_the_trainers_is_refused(client, server, prompts):
    server.other_prompt = True
    with pytest.raises(JigsawError, match="row i0: vLLM read a prompt of"):
        client.generate(ROWS["image"], ONE, prompts)


def test_a_sampled_vision_token_is_refused(client, server, processor, prompts):
    forbidden = tuple(vision_token_ids(processor))
    server.sampled = forbidden[0]
    with pytest.raises(JigsawError, match="row i0: vLLM sampled a vision token"):
        client.generate(ROWS["image"], replace(ONE, forbidden_tokens=forbidden), prompts)


def test_clips_with_different_frame_rates_are_refused_with_the_remedy(client, processor):
    row = synthetic_row("odd", synthetic_clip(1, fps=2.0), synthetic_clip(2, fps=3.0))
    with pytest.raises(JigsawError, match=r"row odd: .*unlike frame rates.*rollout.mode=colocate"):
        client.generate([row], replace(ONE, seeds=(0,)))


def test_without_a_gpu_weights_are_sent_as_a_file_and_caches_are_reset(client, server, model, tmp_path):
    client.sync(Policy(model))
    client.sync(Policy(model))  # the same weights are not sent again
    assert server.requests == [
        ("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path / "weights")}}),
        ("/reset_prefix_cache", {}),
        ("/reset_encoder_cache", {}),
    ]
    weights = load_file(tmp_path / "weights" / "model.safetensors")
    assert all(weights[name].equal(weight) for name, weight in model.named_parameters())


def test_new_weights_are_sent_after_a_started_batch_is_complete(client, server, model, prompts):
    """Given a batch that is being sampled, new weights wait for it, and it is not requested again."""
    answer, released = server.answer, threading.Event()

    def answer_when_released(body):
        released.wait(10)
        return answer(body)

    server.answer = answer_when_released
    client.sync(Policy(model, version=0))
    client.begin(ROWS["image"], ONE)
    threading.Timer(0.3, released.set).start()
    client.sync(Policy(model, version=1))
    order = [path for path, _ in server.requests]
    assert order.count("/collective_rpc") == 2 and order[-3:] == [
        "/collective_rpc", "/reset_prefix_cache", "/reset_encoder_cache"
    ]  # fmt: skip
    assert client.generate(ROWS["image"], ONE, prompts).tokens == [[7], [7]]
    assert len(completion_requests(server)) == 2


def test_an_error_of_the_server_is_reported_in_one_line(client, server, processor):
    server.answer = lambda body: {"prompt_token_ids": [], "choices": None}
    with pytest.raises(JigsawError, match=r"the vLLM server at http://127.0.0.1:\d+ failed: "):
        client.generate(ROWS["image"], ONE)


def test_a_prompt_without_room_for_its_completion_is_refused_before_it_is_sent(client, server, prompts):
    with pytest.raises(JigsawError, match=r"row i0: its prompt of .* rollout\.max_model_len=2048; set it to"):
        client.generate(ROWS["image"], replace(ONE, max_tokens=2048), prompts)
    assert completion_requests(server) == []
