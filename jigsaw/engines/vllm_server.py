"""Rollouts by a vLLM server beside the trainer's processes, on GPUs of its own; `jigsaw.engines.serving` starts it.

In: puzzle rows and the tokens that the trainer made of them. Out: as of `jigsaw.engines.vllm`. A request holds
chat messages with one part per medium, pixels without loss; the server writes the prompt itself, and the ids that it
returns are compared with the trainer's. Weights go over NCCL, from the first rank to the server, by TRL's client.
Without a GPU there is no such way: there they go through files in the run folder, slower and otherwise the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist

from jigsaw.engines.vllm import check_completion, check_prompt
from jigsaw.engines.weights import merged_weights, shapes
from jigsaw.errors import JigsawError, first_line
from jigsaw.models.prompts import media_of

if TYPE_CHECKING:
    from jigsaw.engines.serving import Address

SECONDS_TO_START = 900
AT_ONCE = 64
"""Requests of a process that are under way together."""
Given = TypeVar("Given")


class VllmServer:
    """A client of the server, one per rank; the first rank's also sends the weights.

    Args:
        address: where the server listens.
        forbidden_tokens: ids that are never sampled.
        dtype: in which the server runs.
        folder: on disk, for weights where there is no GPU; the server sees it too.

    Raises:
        JigsawError: nothing answers there.
    """

    def __init__(self, address: Address, forbidden_tokens: Sequence[int], *, dtype: str, folder: Path) -> None:
        os.environ["VLLM_HOST_IP"] = address.host  # where the server finds the first rank: on its own machine
        from trl.generation.vllm_client import VLLMClient

        self._address, self._dtype, self._folder = address, getattr(torch, dtype), folder
        self._forbidden = {int(token): -100.0 for token in forbidden_tokens}
        self._first = not dist.is_initialized() or dist.get_rank() == 0
        self._client = self._asked(
            lambda: VLLMClient(
                base_url=address.url, group_port=address.weights_port, connection_timeout=SECONDS_TO_START
            )
        )

    def sync(self, model: Any) -> None:
        """Give the server the weights of `model`, gathered and merged as need be; drops cached prompts and images.

        Collective: every rank calls it, and none goes on before the server has them.
        """
        device = next(model.parameters()).device
        weights = ((name, weight.to(self._dtype)) for name, weight in merged_weights(model))
        if not self._first:
            for _ in weights:  # ZeRO-3 gathers them on all ranks
                pass
        elif device.type == "cuda":
            self._asked(lambda: self._send(model, weights, device))
        else:
            self._asked(lambda: self._send_by_file(weights))
        if self._first:
            self._asked(self._forget)
        if dist.is_initialized():
            dist.barrier()

    def _send(self, model: Any, weights: Any, device: Any) -> None:
        if self._client.communicator is None:
            self._client.init_communicator(device)
        name = str(self._dtype).removeprefix("torch.")
        with self._client.weight_update():
            self._client.update_named_params([(key, name, shape) for key, shape in shapes(model)], weights)

    def _send_by_file(self, weights: Any) -> None:
        from safetensors.torch import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.contiguous() for name, weight in weights}, self._folder / "model.safetensors")
        self._post("collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(self._folder)}})

    def _forget(self) -> None:
        self._client.reset_prefix_cache()
        self._post("reset_encoder_cache", {})  # images encoded by the weights of before

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        answer = self._client.session.post(f"{self._address.url}/{path}", json=body)
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")

    def generate(
        self,
        rows: Sequence[Mapping[str, Any]],
        prompt_ids: Sequence[Sequence[int]],
        generations: int,
        *,
        seeds: Sequence[int],
        max_tokens: int,
        end_tokens: Sequence[int] = (),
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
    ) -> tuple[list[list[int]], list[list[float]]]:
        """G completions of each row, those of a row together, and the log-probabilities of their tokens.

        See `jigsaw.engines.vllm.VllmEngine.generate`.
        """

        shared = {"logit_bias": self._forbidden, "stop_token_ids": list(end_tokens)}

        def ask(number: int) -> dict[str, Any]:
            row = rows[number]
            found: dict[str, Any] = self._client.chat(
                [messages_of(row)],
                n=generations,
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                min_p=min_p,
                generation_kwargs={"seed": seeds[number], **shared, **_video_rate(row)},
            )
            return found

        completions: list[list[int]] = []
        log_probabilities: list[list[float]] = []
        with ThreadPoolExecutor(max_workers=AT_ONCE) as threads:
            answers = self._asked(lambda: list(threads.map(ask, range(len(rows)))))
        for row, expected, answer in zip(rows, prompt_ids, answers, strict=True):
            check_prompt(row, expected, answer["prompt_ids"][0])
            for tokens, logps in zip(answer["completion_ids"], answer["logprobs"], strict=True):
                check_completion(row, tokens, self._forbidden)
                completions.append(tokens)
                log_probabilities.append([of_token[0] for of_token in logps])
        return completions, log_probabilities

    def _asked(self, ask: Callable[[], Given]) -> Given:
        """What a request gives; where it fails, one line that says who did."""
        try:
            return ask()
        except JigsawError:
            raise
        except Exception as error:  # TRL's client raises plain Exceptions
            raise JigsawError(f"the vLLM server at {self._address.url} failed: {first_line(error)[:500]}") from error


def messages_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's messages as an OpenAI-style server takes them, each medium in place of its placeholder.

    Frames of a clip go as the server's list of still pictures, which it does not sample again.
    """
    from trl.generation.vllm_client import pil_to_base64

    images, clips = iter(media_of(row, "image")), iter(media_of(row, "video"))

    def part(given: Mapping[str, Any]) -> dict[str, Any]:
        if given["type"] == "image":
            url = f"data:image/png;base64,{pil_to_base64(next(images))}"
            return {"type": "image_url", "image_url": {"url": url}}
        if given["type"] == "video":
            from PIL import Image

            # Named JPEG by the server, which looks at the content and reads PNG as well.
            frames = ",".join(pil_to_base64(Image.fromarray(frame)) for frame in next(clips).frames)
            return {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{frames}"}}
        return dict(given)

    return [
        {"role": message["role"], "content": [part(given) for given in message["content"]]} for message in row["prompt"]
    ]


def _video_rate(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the server must know of a row's clips beside their frames.

    Raises:
        JigsawError: the clips have unlike rates; a request has room for one.
    """
    rates: Iterable[float] = {float(clip.fps) for clip in row.get("videos") or ()}
    if not rates:
        return {}
    rate, *others = rates
    if others:
        raise JigsawError(
            f"row {row.get('id')}: its clips have unlike frame rates, which a vLLM server cannot be told; use "
            f"rollout.mode=colocate"
        )
    return {"media_io_kwargs": {"video": {"fps": rate, "num_frames": -1}}}
