"""NEO's processor: resized images as patches, and `<img>`, context tokens and `</img>` in the prompt.

In: chat messages with images and videos. Out: `input_ids`, `attention_mask`, `pixel_values` (flattened patches of 16
pixels, row-major over each image) and `image_grid_thw` (t = 1, height and width in patches). An image of H x W pixels
has (H / 32) x (W / 32) tokens. A video is written as a line about its time, followed by a time stamp and an image per
frame.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageStat
from torch import Tensor
from transformers import AutoImageProcessor, BatchFeature, ProcessorMixin, Qwen2VLImageProcessor
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessorKwargs
from transformers.processing_utils import ProcessingKwargs

from jigsaw.models.neo.configuration import NEOVisionConfig
from jigsaw.models.neo.video import Labels, video_parts

CONTEXT, START, END = "<IMG_CONTEXT>", "<img>", "</img>"
SPECIAL_TOKENS = (CONTEXT, START, END)
"""The special tokens in the order of their ids in the official vocabulary, after Qwen3's tokens."""

CHAT_TEMPLATE = (Path(__file__).parent / "neo_chat.jinja").read_text(encoding="utf-8")
"""ChatML without a default system turn, and with a line break after an image."""


def on_plain_background(image: Image.Image) -> Image.Image:
    """A picture in RGB; a transparent one on white if its visible part is dark, and on black if it is light."""
    if image.mode == "RGB":
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    visible = alpha.point(lambda value: 255 * (value > 0))
    mean = ImageStat.Stat(image.convert("L"), mask=visible).mean[0] if visible.getbbox() else 0.0
    plain = Image.new("RGB", image.size, "white" if mean < 128 else "black")
    plain.paste(image, mask=alpha)
    return plain


def pixel_budget(min_pixels: int, max_pixels: int, images: int) -> int:
    """The maximum pixels per image in a prompt with `images` images.

    >>> pixel_budget(65_536, 4_194_304, 1), pixel_budget(65_536, 4_194_304, 9), pixel_budget(65_536, 4_194_304, 500)
    (4194304, 932067, 65536)
    """
    return max(min(max_pixels, 2 * max_pixels // max(images, 1)), min_pixels)


class NEOImageProcessor(Qwen2VLImageProcessor):  # type: ignore[misc]  # transformers comes without types
    """Qwen2-VL's resizing (multiples of 32, area within limits, aspect ratio at most 200) with NEO's patches."""

    size = {"shortest_edge": 65536, "longest_edge": 4194304}  # noqa: RUF012  # of the base class
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    patch_size = 16
    temporal_patch_size = 1
    merge_size = 2

    def convert_to_rgb(self, image: Any) -> Any:
        """Put transparent pictures on a plain background."""
        return on_plain_background(image) if isinstance(image, Image.Image) else super().convert_to_rgb(image)

    def patchify(self, images: Tensor, patch_size: int, **_: Any) -> tuple[Tensor, int, int]:
        """Flattened patches `[B, patches, channels * patch_size**2]` in raster order, and the grid's two sides."""
        batch, channels, height, width = images.shape
        rows, columns = height // patch_size, width // patch_size
        grid = images.reshape(batch, channels, rows, patch_size, columns, patch_size).permute(0, 2, 4, 1, 3, 5)
        return grid.reshape(batch, rows * columns, channels * patch_size**2), rows, columns


class NEOImagesKwargs(Qwen2VLImageProcessorKwargs, total=False):  # type: ignore[misc,call-arg]
    """Qwen2-VL's options, and `prompt_images`: the number of images in the prompt, if a call does not have all."""

    prompt_images: int


class NEOProcessorKwargs(ProcessingKwargs, total=False):  # type: ignore[misc,call-arg]
    """Options of a call."""

    images_kwargs: NEOImagesKwargs
    _defaults = {  # noqa: RUF012  # of the base class
        "text_kwargs": {"padding": False, "return_mm_token_type_ids": True}
    }


class NEOProcessor(ProcessorMixin):  # type: ignore[misc]  # transformers comes without types
    """Tokenizer and image processor of a NEO.

    Args:
        image_processor: a `NEOImageProcessor`; None for one with the official limits.
        tokenizer: Qwen3's tokenizer with `<IMG_CONTEXT>`, `<img>` and `</img>`.
        chat_template: the chat template; None for NEO's.
        frame_labels: labels of video frames; `seconds`, or `numbers` for NEO 1.5.

    Raises:
        ValueError: the tokenizer lacks one of the three tokens.
    """

    valid_processor_kwargs = NEOProcessorKwargs

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        frame_labels: Labels = "seconds",
        **kwargs: Any,
    ) -> None:
        self.frame_labels: Labels = frame_labels
        vocabulary = tokenizer.get_vocab()
        if missing := [token for token in SPECIAL_TOKENS if token not in vocabulary]:
            raise ValueError(f"the tokenizer has no {', '.join(missing)}: NEO's needs {', '.join(SPECIAL_TOKENS)}")
        self.image_token = CONTEXT
        self.image_token_id, self.image_start_token_id, self.image_end_token_id = map(vocabulary.get, SPECIAL_TOKENS)
        super().__init__(
            image_processor or NEOImageProcessor(), tokenizer, chat_template=chat_template or CHAT_TEMPLATE, **kwargs
        )

    @classmethod
    def _get_arguments_from_pretrained(cls, path: Any, processor_dict: Any = None, **kwargs: Any) -> list[Any]:
        """As in transformers; if there is no image processor on disk, its limits are read from the configuration."""
        try:
            image_processor = AutoImageProcessor.from_pretrained(path, **{**kwargs, "trust_remote_code": False})
        except (OSError, ValueError):
            from transformers import AutoConfig

            vision: NEOVisionConfig = AutoConfig.from_pretrained(path, trust_remote_code=False).vision_config
            image_processor = NEOImageProcessor(
                size={"shortest_edge": vision.min_pixels, "longest_edge": vision.max_pixels}
            )
        return [image_processor, cls._load_tokenizer_from_pretrained("tokenizer", path, **kwargs)]

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, for messages that may contain videos.

        A video part is `{"type": "video", "video": frames}` with frames as pictures or uint8 `[T, height, width, 3]`,
        and with `fps` or `timestamps` (seconds); or a part whose `video` is a `tasks.Clip`.
        """
        batched = bool(conversation) and isinstance(conversation[0], list | tuple)
        expanded = [
            _without_videos(turns, self.frame_labels) for turns in (conversation if batched else [conversation])
        ]
        return super().apply_chat_template(expanded if batched else expanded[0], *args, **kwargs)

    def prepare_inputs_layout(
        self, images: Any = None, text: Any = None, videos: Any = None, audio: Any = None, **kwargs: Any
    ) -> tuple[Any, Any, Any, Any]:
        """As in transformers, with the images grouped by prompt.

        Raises:
            ValueError: the numbers of placeholders and images differ, or a video is passed outside a message.
        """
        if videos is not None and any(len(group) if isinstance(group, list) else True for group in videos):
            raise ValueError("NEO takes videos within messages, as time-stamped frames: see apply_chat_template")
        images, text, _, audio = super().prepare_inputs_layout(images=images, text=text, audio=audio, **kwargs)
        if text is not None:
            images = _by_prompt(images, [prompt.count(CONTEXT) for prompt in text])
        return images, text, None, audio

    def _process_images(self, images: Any, prompt_images: int | None = None, **kwargs: Any) -> tuple[Any, list[str]]:
        """Patches of all images, each prompt within its pixel budget, and the text that replaces each placeholder."""
        groups = images if isinstance(images, list) and images and isinstance(images[0], list) else [images]
        size = kwargs.pop("size", None) or self.image_processor.size
        low = kwargs.pop("min_pixels", None) or size["shortest_edge"]
        high = kwargs.pop("max_pixels", None) or size["longest_edge"]
        flat: list[Any] = []
        shares: dict[int, list[int]] = {}  # a pixel budget: the places of its images, processed at once
        for group in groups:
            group = group if isinstance(group, list | tuple) else [group]
            most = pixel_budget(low, high, prompt_images or len(group))
            shares.setdefault(most, []).extend(range(len(flat), len(flat) + len(group)))
            flat.extend(group)
        if not flat:
            return {}, []
        import torch

        patches: list[Any] = [None] * len(flat)
        grids = list(patches)
        for most, places in shares.items():
            limits = {"shortest_edge": min(low, most), "longest_edge": most}
            options = {**kwargs, "size": limits, "return_tensors": "pt"}
            done = self.image_processor([flat[place] for place in places], **options)
            separate = done["pixel_values"].split(done["image_grid_thw"].prod(-1).tolist())
            for place, patch, grid in zip(places, separate, done["image_grid_thw"], strict=True):
                patches[place], grids[place] = patch, grid
        processed = BatchFeature({"pixel_values": torch.cat(patches), "image_grid_thw": torch.stack(grids)})
        tokens = processed["image_grid_thw"].prod(-1) // self.image_processor.merge_size**2
        return processed, [CONTEXT * count for count in tokens.tolist()]


def _by_prompt(images: Any, counts: Sequence[int]) -> list[list[Any]] | None:
    """Images as one list per prompt, for prompts with `counts` placeholders each."""
    if images is not None and not isinstance(images, list | tuple):
        images = [images]
    nested = bool(images) and any(isinstance(group, list | tuple) for group in images)
    flat = [image for group in images or () for image in (group or ())] if nested else list(images or ())
    lengths = [len(group or ()) for group in images] if nested else counts
    if sum(counts) != len(flat) or list(lengths) != list(counts):
        numbers = ", ".join(map(str, lengths)) if nested else str(len(flat))
        raise ValueError(f"prompts with {', '.join(map(str, counts))} image placeholders have {numbers} images")
    if not flat:
        return None
    rest = iter(flat)
    return [[next(rest) for _ in range(count)] for count in counts]


def _without_videos(turns: Sequence[Mapping[str, Any]], labels: Labels) -> list[dict[str, Any]]:
    return [
        {
            **turn,
            "content": [
                one
                for part in turn["content"]
                for one in (video_parts(part, labels) if part.get("type") == "video" else [part])
            ],
        }
        if isinstance(turn["content"], list)
        else dict(turn)
        for turn in turns
    ]
