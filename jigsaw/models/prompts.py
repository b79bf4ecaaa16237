"""A row's prompt as text with placeholders, and its media in the order of those: what every engine is given.

In: rows of a puzzle set. Out: the chat template's text, the media, what a processor must know of a clip; or the tensors
that a model takes. Every medium must have its placeholder and the other way round; a mismatch is an error, never a
puzzle with a missing piece.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from jigsaw.errors import JigsawError

Kind = Literal["image", "video"]


def media_of(row: Mapping[str, Any], kind: Kind) -> list[Any]:
    """The row's images or clips, in prompt order.

    Raises:
        JigsawError: placeholders and media do not match in number.
    """
    given = list(row.get(f"{kind}s") or ())
    wanted = sum(part["type"] == kind for message in row["prompt"] for part in message["content"])
    if wanted != len(given):
        article = "an" if kind == "image" else "a"
        missing, left = max(wanted - len(given), 0), max(len(given) - wanted, 0)
        raise JigsawError(
            f"puzzle {row.get('id')}: {missing} placeholders without {article} {kind}, {left} {kind}s without one"
        )
    return given


def with_media(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's chat messages with each placeholder part holding its medium.

    Args:
        row: `prompt` with `{"type": "image"}` and `{"type": "video"}` parts, and `images` and `videos` in prompt order.

    Raises:
        JigsawError: placeholders and media do not match in number.
    """
    queues = {"image": iter(media_of(row, "image")), "video": iter(media_of(row, "video"))}
    return [
        {
            "role": message["role"],
            "content": [
                {"type": part["type"], part["type"]: next(queues[part["type"]])} if part["type"] in queues else part
                for part in message["content"]
            ],
        }
        for message in row["prompt"]
    ]


def prompt_text(processor: Any, row: Mapping[str, Any]) -> str:
    """The prompt as the chat template writes it, one placeholder per medium, the assistant's turn opened."""
    return str(processor.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False))


def video_metadata(clip: Any) -> dict[str, Any]:
    """What transformers and vLLM want to know of a `tasks.Clip`: its frames are all there are, at its own rate."""
    count = len(clip.frames)
    return {
        "fps": clip.fps,
        "duration": count / clip.fps,
        "total_num_frames": count,
        "frames_indices": list(range(count)),
        "video_backend": "jigsaw",
    }


def processor_inputs(processor: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
    """A batch of rows as the tensors that the model takes, padded on the left.

    Clips go in with their own frame rate and are not sampled again: `videos` are frames as the task chose them. A
    processor without a video processor (NEO's) is given them within the messages, and writes each as images.

    Raises:
        JigsawError: placeholders and media do not match in number.
    """
    images = [image for row in rows for image in media_of(row, "image")]
    clips = [clip for row in rows for clip in media_of(row, "video")]
    if clips and getattr(processor, "video_processor", None) is None:
        return processor.apply_chat_template(
            [with_media(row) for row in rows],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
    media: dict[str, Any] = {"images": images} if images else {}
    if clips:
        media |= {"videos": [clip.frames for clip in clips], "do_sample_frames": False}
        media["video_metadata"] = [video_metadata(clip) for clip in clips]
    text = [prompt_text(processor, row) for row in rows]
    return processor(text=text, padding=True, padding_side="left", return_tensors="pt", **media)


def completion_tokens(processor: Any) -> Callable[[str], list[int]]:
    """What turns a completion's text into the token ids that a model would have written for it, the end included."""
    tokenizer = processor.tokenizer
    return lambda text: [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
