"""Checkpoints of any family as a model of lmms-eval, on transformers or vLLM.

In: lmms-eval's requests, whose messages contain pictures and clips. Out: greedy texts. The settings are those of the
Visual Jigsaw paper: clips at 2 frames per second up to `max_frames`, frames of 128 to 256 visual tokens, and a pixel
budget that the pictures of a prompt share.

    lmms-eval eval --model jigsaw --model_args pretrained=runs/x/model,max_frames=32 --tasks mmstar
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
from lmms_eval.api.model import lmms
from PIL import Image

from jigsaw.answering.generation import Generation, open_engine
from jigsaw.errors import JigsawError
from jigsaw.models.families import family_of_processor
from jigsaw.models.load import load_processor
from jigsaw.progress import progress_bar
from jigsaw.tasks import Clip

IMAGE_BUDGET = 12_845_056
"""Maximum number of pixels of all pictures of a prompt."""

FRAME_TOKENS = (128, 256)
"""Minimum and maximum number of visual tokens of a frame."""
FRAMES_PER_SECOND = 2.0

MERGED = 2
"""Patches along the side of a token, as in qwen-vl-utils."""


class Checkpoint(lmms):  # type: ignore[misc]  # lmms-eval is untyped
    """A vision-language checkpoint behind lmms-eval's chat interface.

    Args:
        pretrained: checkpoint folder or hub id.
        engine: `transformers` or `vllm`.
        dtype: `float32` or `bfloat16`.
        max_frames: maximum number of frames of a clip. Clips share it if the task says so.
        max_new_tokens: completion limit.
        batch_size: prompts per batch.
        device, max_batch_size: arguments of lmms-eval's command, which are not used.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        engine: str = "transformers",
        dtype: str = "bfloat16",
        max_frames: int = 32,
        max_new_tokens: int = 1024,
        batch_size: int | str = 1,
        device: str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        generation = Generation(engine, dtype, int(batch_size), int(max_new_tokens))
        self._engine = open_engine(str(pretrained), generation)
        processor = load_processor(str(pretrained))
        self._unit = family_of_processor(processor).pixel_unit(processor)
        self._batch_size = generation.batch_size
        self.max_frames = int(max_frames)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Greedy texts, in the order of the requests."""
        texts: list[str] = []
        with progress_bar("answering", len(requests)) as bar:
            for start in range(0, len(requests), self._batch_size):
                batch = requests[start : start + self._batch_size]
                for request, (text, *_) in zip(batch, self._engine([self._row(each) for each in batch]), strict=True):
                    texts.append(_until(text, request.args[2].get("until")))
                    bar.advance()
        return texts

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not supported: no benchmark of the suites needs it."""
        raise JigsawError("this model generates texts; it cannot run a benchmark that compares likelihoods")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not supported: no benchmark of the suites needs it."""
        raise JigsawError("this model answers once; it cannot run a benchmark with several rounds")

    def _row(self, request: Any) -> dict[str, Any]:
        """The row of a request for the engines."""
        _, to_messages, _, doc_id, task, split = request.args
        messages = to_messages(self.task_dict[task][split][doc_id])
        return row_of_messages(messages, max_frames=self.max_frames, unit=self._unit, name=f"{task} {doc_id}")


def row_of_messages(messages: Sequence[Mapping[str, Any]], *, max_frames: int, unit: int, name: str) -> dict[str, Any]:
    """A row from messages of lmms-eval's protocol: placeholders in `prompt`, and the pictures and clips.

    Args:
        messages: of one request.
        max_frames: of a clip.
        unit: side in pixels of one visual token.
        name: of the row, for errors.

    Raises:
        JigsawError: a medium cannot be read.
    """
    parts = list(_parts(messages))
    count = sum(part["type"] == "image" for part in parts)
    images = [fitted(_image(part["url"]), IMAGE_BUDGET // count) for part in parts if part["type"] == "image"]
    videos = [_clip(part["url"], max_frames, unit, name) for part in parts if part["type"] == "video"]
    prompt = [
        {"role": message["role"], "content": [_placeholder(part) for part in _parts([message])]} for message in messages
    ]
    return {"id": name, "prompt": prompt, "images": images, "videos": videos}


def _parts(messages: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        content = message["content"]
        yield from [{"type": "text", "text": content}] if isinstance(content, str) else content


def _placeholder(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    if part["type"] not in ("image", "video"):
        raise JigsawError(f"a prompt contains {part['type']}, which this model does not support")
    return {"type": part["type"]}


def _image(url: Any) -> Image.Image:
    if isinstance(url, Image.Image):
        return url.convert("RGB")
    try:
        with Image.open(url) as opened:
            return opened.convert("RGB")
    except (OSError, AttributeError) as error:
        raise JigsawError(f"{url} cannot be read as a picture") from error


def fitted(image: Image.Image, most: int) -> Image.Image:
    """A picture with at most `most` pixels, with the same aspect ratio."""
    width, height = image.size
    if width * height <= most:
        return image
    shrunk = sqrt(most / (width * height))
    return image.resize((max(1, int(width * shrunk)), max(1, int(height * shrunk))), Image.Resampling.BICUBIC)


def _clip(url: Any, max_frames: int, unit: int, name: str) -> Clip:
    """The frames of a clip with the paper's settings. `url` is a path, `{"path", "share"}` or frames."""
    from qwen_vl_utils import fetch_video

    least, most = (tokens * unit**2 for tokens in FRAME_TOKENS)
    asked: dict[str, Any] = {"min_pixels": least, "max_pixels": most}
    share = 1
    if isinstance(url, Mapping):
        share = int(url.get("share", 1))
        asked |= {key: url[key] for key in ("video_start", "video_end") if key in url}
        url = url.get("path") or url.get("url") or url.get("video")
    if isinstance(url, str):
        asked |= {"fps": FRAMES_PER_SECOND, "max_frames": max(4, max_frames // share)}
    try:
        frames, fps = fetch_video(asked | {"video": url}, image_patch_size=unit // MERGED, return_video_sample_fps=True)
    except Exception as error:  # decoders may raise any error
        raise JigsawError(f"{name}: {url if isinstance(url, str) else 'its clip'} cannot be decoded") from error
    pixels = frames.permute(0, 2, 3, 1).round().clamp(0, 255).byte().numpy()
    return Clip(frames=pixels, times=np.arange(len(pixels)) / float(fps), fps=float(fps))


def _until(text: str, stops: Any) -> str:
    """The text up to the first stop string of a task."""
    for stop in [stops] if isinstance(stops, str) else stops or ():
        text = text.split(stop)[0]
    return text


def manifest() -> Any:
    """The model for lmms-eval's registry, in the entry-point group `lmms_eval.models`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="jigsaw", chat_class_path=f"{__name__}.Checkpoint")
