"""The engine that is a client of a vLLM server on its own GPUs, which `jigsaw.engines.serving` starts.

In: puzzle rows and the trainer's prompt tokens. Out: completions, as in `jigsaw.engines.vllm`. A request has chat
messages with one part per medium, encoded without loss; the server applies the chat template, and the ids that it
returns are compared with the trainer's. TRL's client sends weights over NCCL from the first rank to the server; without
a GPU they are written to files in the run folder, which is slower.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist

from jigsaw.engines.base import Completions, Row, Sampling
from jigsaw.engines.vllm_requests import check_completion, check_prompt, check_room
from jigsaw.engines.weights import Policy
from jigsaw.errors import JigsawError, first_line
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import expand_media, media_of

if TYPE_CHECKING:
    from jigsaw.engines.serving import Address

SECONDS_TO_START = 900
AT_ONCE = 64
"""Maximum concurrent requests of a process."""
Result = TypeVar("Result")


class VllmServer:
    """A client of the server, one per rank; the first rank also sends the weights. See `jigsaw.engines.Engine`.

    Args:
        address: address of the server.
        processor: the trainer's processor.
        dtype: data type of the server's weights.
        room: maximum tokens of a prompt with its completion.
        folder: folder for weights if there is no GPU; the server reads it.

    Raises:
        JigsawError: the server does not respond.
    """

    def __init__(self, address: Address, processor: Any, *, dtype: str, room: int, folder: Path) -> None:
        os.environ["VLLM_HOST_IP"] = address.host  # the first rank is on the server's machine
        from trl.generation.vllm_client import VLLMClient

        self._address, self._processor, self._room = address, processor, room
        self._dtype, self._folder, self._version = getattr(torch, dtype), folder, -1
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="jigsaw-sample")
        self._begun: dict[Sampling, list[Future[dict[str, Any]]]] = {}
        self._first = not dist.is_initialized() or dist.get_rank() == 0
        self._client = self._request(
            lambda: VLLMClient(
                base_url=address.url, group_port=address.weights_port, connection_timeout=SECONDS_TO_START
            )
        )

    def sync(self, policy: Policy) -> None:
        """Send the weights of a policy, gathered and merged if needed, and clear cached prompts and images.

        Collective: every rank calls it, and continues after the server has the weights.
        """
        if self._version == policy.version:
            return
        wait([answer for answers in self._begun.values() for answer in answers])
        if dist.is_initialized():
            dist.barrier()  # the other processes have their completions too
        device = next(policy.unwrapped.parameters()).device
        weights = ((name, weight.to(self._dtype)) for name, weight in policy.weights())
        if not self._first:
            for _ in weights:  # ZeRO-3 gathers them on all ranks
                pass
        elif device.type == "cuda":
            self._request(lambda: self._send(policy, weights, device))
        else:
            self._request(lambda: self._send_by_file(weights))
        if self._first:
            self._request(self._clear_caches)
        if dist.is_initialized():
            dist.barrier()
        self._version = policy.version

    def _send(self, policy: Policy, weights: Any, device: Any) -> None:
        if self._client.communicator is None:
            self._client.init_communicator(device)
        torch.cuda.synchronize(device)  # wait for the optimizer step; weights are packed on another stream
        name = str(self._dtype).removeprefix("torch.")
        with self._client.weight_update():
            self._client.update_named_params([(key, name, shape) for key, shape in policy.shapes()], weights)

    def _send_by_file(self, weights: Any) -> None:
        from safetensors.torch import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.contiguous() for name, weight in weights}, self._folder / "model.safetensors")
        self._post("collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(self._folder)}})

    def _clear_caches(self) -> None:
        self._client.reset_prefix_cache()
        self._post("reset_encoder_cache", {})  # images that the old weights encoded

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        answer = self._client.session.post(f"{self._address.url}/{path}", json=body)
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")

    def begin(self, rows: Sequence[Row], sampling: Sampling) -> None:
        """See `AsyncEngine`."""
        sampling.require_seeds(rows)
        self._begun[sampling] = [
            self._threads.submit(self._ask, expand_media(self._processor, row), sampling, number)
            for number, row in enumerate(rows)
        ]

    def generate(self, rows: Sequence[Row], sampling: Sampling, prompts: PromptBatch | None = None) -> Completions:
        """See `Engine` and `jigsaw.engines.vllm.VllmEngine.generate`."""
        expected = None if prompts is None else prompts.token_lists()
        for row, ids in zip(rows, expected or (), strict=False):
            check_room(row, len(ids), sampling.max_tokens, self._room)
        if sampling not in self._begun:
            self.begin(rows, sampling)
        begun = self._begun.pop(sampling)
        answers = self._request(lambda: [answer.result() for answer in begun])
        tokens: list[list[int]] = []
        log_probabilities: list[list[float]] = []
        for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            prompt = answer["prompt_ids"][0]
            if expected is not None:
                check_prompt(row, expected[number], prompt)
            for ids, logps in zip(answer["completion_ids"], answer["logprobs"], strict=True):
                check_completion(row, ids, sampling.forbidden_tokens)
                if len(ids) < sampling.max_tokens and (not ids or ids[-1] not in sampling.end_tokens):
                    check_room(row, len(prompt), sampling.max_tokens, self._room)
                tokens.append(ids)
                log_probabilities.append([of_token[0] for of_token in logps])
        return Completions(tokens, log_probabilities)

    def _ask(self, row: Row, sampling: Sampling, number: int) -> dict[str, Any]:
        """The server's completions of one row."""
        settings: dict[str, Any] = {
            "logit_bias": dict.fromkeys(sampling.forbidden_tokens, -100.0),
            "stop_token_ids": list(sampling.end_tokens),
            **_video_rate(row),
        }
        if not sampling.greedy:
            settings["seed"] = sampling.seeds[number]
        answer: dict[str, Any] = self._client.chat(
            [messages_of(row)],
            n=sampling.count,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            generation_kwargs=settings,
        )
        return answer

    def sleep(self) -> None:
        """Do nothing, since the server has its own GPUs."""

    def close(self) -> None:
        """Close the connections; the server ends with its stage."""
        self._threads.shutdown(cancel_futures=True)
        self._client.session.close()

    def _request(self, ask: Callable[[], Result]) -> Result:
        """The result of a request; an error becomes a `JigsawError` that names the server."""
        try:
            return ask()
        except JigsawError:
            raise
        except Exception as error:  # TRL's client raises plain Exceptions
            raise JigsawError(f"the vLLM server at {self._address.url} failed: {first_line(error)[:500]}") from error


def messages_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's messages for an OpenAI-compatible server, with each medium instead of its placeholder.

    The frames of a clip are sent as a list of pictures, which the server does not sample again.
    """
    from trl.generation.vllm_client import pil_to_base64

    images, clips = iter(media_of(row, "image")), iter(media_of(row, "video"))

    def converted(part: Mapping[str, Any]) -> dict[str, Any]:
        if part["type"] == "image":
            url = f"data:image/png;base64,{pil_to_base64(next(images))}"
            return {"type": "image_url", "image_url": {"url": url}}
        if part["type"] == "video":
            from PIL import Image

            # The server requires the type JPEG here, but reads the content, also PNG.
            frames = ",".join(pil_to_base64(Image.fromarray(frame)) for frame in next(clips).frames)
            return {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{frames}"}}
        return dict(part)

    return [
        {"role": message["role"], "content": [converted(part) for part in message["content"]]}
        for message in row["prompt"]
    ]


def _video_rate(row: Mapping[str, Any]) -> dict[str, Any]:
    """The frame rate of a row's clips, as request settings.

    Raises:
        JigsawError: the clips have different frame rates; a request can only have one.
    """
    rates: Iterable[float] = {float(clip.fps) for clip in row.get("videos") or ()}
    if not rates:
        return {}
    rate, *others = rates
    if others:
        raise JigsawError(
            f"row {row.get('id')}: its clips have different frame rates, which a vLLM server does not accept; use "
            f"rollout.mode=colocate"
        )
    return {"media_io_kwargs": {"video": {"fps": rate, "num_frames": -1}}}
