"""The contract of a model family, tried on a model that is small enough: what the table of families is made from.

In: the name of a tiny architecture, or a checkpoint folder. Out: one finding per property, with its figure. The judge
is the model's own forward pass on one sequence without padding, in float32; whole runs are judged by their end.

    from jigsaw.testing import assert_family

    def test_my_family_keeps_the_contract():
        assert_family("my_model_type")
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from jigsaw.errors import JigsawError
from jigsaw.testing.family_runs import trains_on_two_processes, trains_to_the_end
from jigsaw.testing.findings import ContractError, Finding, NotChecked, Unknown, findings_of, require_all

LIMIT = 1e-4
"""Most that a log-probability may be off, in nats."""

PIXELS_COUNT = 1e-3
"""Least that some log-probability changes, in nats, when an image is replaced by its negative."""

LENGTHS = (5, 1, 3, 7)
"""Tokens of the completions of a group; the first and the last are compared as all others."""

WORDS = ("Piece 1:", "Piece 2:", "Which piece is which?", "2, 1", "system", "user", "assistant")
"""What the tokenizer of a tiny model learns."""

Row = dict[str, Any]


class _Case:
    """A model that the properties are tried on."""

    def __init__(self, model: str, folder: Path) -> None:
        from jigsaw.models.tiny import TinySizes, write_tiny

        self.name, self.folder = model, folder
        self.tiny = not Path(model).is_dir()
        if self.tiny:
            sizes = {"hidden_size": 64, "num_layers": 3, "vision_hidden_size": 64, "vision_layers": 2}
            write_tiny(model, TinySizes(initializer_range=0.1, **sizes), WORDS, folder)
        else:
            self.folder = Path(model)

    @cached_property
    def processor(self) -> Any:
        from jigsaw.models.load import load_processor

        return load_processor(str(self.folder))

    @cached_property
    def model(self) -> Any:
        from jigsaw.models.load import load_model

        return load_model(str(self.folder))

    @cached_property
    def family(self) -> Any:
        from jigsaw.models.families import family_of

        return family_of(self.model)

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """Prompts of every kind of medium, of unequal lengths."""
        unit = self.family.pixel_unit(self.processor)
        wide, tall, square = (2 * unit, unit), (unit, 2 * unit), (3 * unit, 3 * unit)
        return {
            "one image": [_row("one", _image(0, wide)), _row("tall", _image(1, tall))],
            "several images": [
                _row("two", _image(2, wide), _image(3, wide)),
                _row("three", _image(4, square), _image(5, tall), _image(6, wide)),
            ],
            "video": [
                _row("clip", _clip(7, wide, 4, 2.0)),
                _row("clips", _clip(8, wide, 6, 2.7), _image(9, tall), _clip(10, wide, 3, 1.0)),
            ],
        }

    @property
    def every_row(self) -> list[Row]:
        return [row for rows in self.rows.values() for row in rows]

    def groups(self, rows: Sequence[Row]) -> list[list[list[int]]]:
        """A group of completions for each row."""
        rng = np.random.default_rng(0)
        return [[rng.integers(0, 200, length).tolist() for length in LENGTHS] for _ in rows]

    def apart(self, rows: Sequence[Row], **options: Any) -> float:
        """The largest difference of a log-probability from the model's own, over all completions of all groups."""
        import torch

        from jigsaw.models.self_check import alone_log_probabilities
        from jigsaw.models.shared_prefix import completion_log_probabilities

        groups = self.groups(rows)
        with torch.no_grad():
            ours = completion_log_probabilities(self.model, self.processor, rows, groups, **options)
            differences = [
                (scores - alone_log_probabilities(self.model, self.processor, row, torch.tensor(tokens))).abs().max()
                for row, group, found in zip(rows, groups, ours, strict=True)
                for tokens, scores in zip(group, found, strict=True)
            ]
        return float(torch.stack(differences).max())


def assert_family(model: str, *, only: Sequence[str] = ()) -> None:
    """Fail if a family breaks its contract; arguments as `check_family`. What cannot be tried here is no failure.

    Raises:
        ContractError: one line per property that does not hold.
    """
    require_all(model, [finding for finding in check_family(model, only=only) if finding.checked])


def check_family(model: str, *, only: Sequence[str] = ()) -> list[Finding]:
    """Try the properties of a model family.

    Args:
        model: the name of a tiny architecture (`jigsaw.models.tiny.TinyArchitecture`), or a checkpoint folder. Whole
            runs are tried with tiny architectures alone.
        only: names of properties, of `PROPERTIES`; all where empty.

    Returns:
        A finding per property; the detail of one that holds is its figure.

    Raises:
        JigsawError: a property of another name, or a model that cannot be opened.
    """
    if unknown := [name for name in only if name not in PROPERTIES]:
        raise JigsawError(f"{unknown[0]}: no property of a family; there are {', '.join(PROPERTIES)}")
    chosen = {name: holds for name, holds in PROPERTIES.items() if not only or name in only}
    figures: dict[str, str] = {}

    def tried(name: str, holds: Callable[[_Case], str]) -> Callable[[_Case], None]:
        def run(case: _Case) -> None:
            figures[name] = holds(case)

        return run

    with tempfile.TemporaryDirectory(prefix="jigsaw-family-") as folder:
        case = _Case(model, Path(folder) / "model")
        found = findings_of(case, {name: tried(name, holds) for name, holds in chosen.items()}, type(case))
    return [
        Finding(one.name, one.ok, figures.get(one.name, one.detail) if one.ok else one.detail, one.checked)
        for one in found
    ]


def _image(seed: int, size: tuple[int, int]) -> Any:
    from PIL import Image

    return Image.fromarray(_pixels(seed, size, 1)[0])


def _clip(seed: int, size: tuple[int, int], frames: int, fps: float) -> Any:
    from jigsaw.tasks import Clip

    return Clip(frames=_pixels(seed, size, frames), times=np.arange(frames) / fps, fps=fps)


def _pixels(seed: int, size: tuple[int, int], frames: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (frames, size[1], size[0], 3), dtype=np.uint8)


def _row(name: str, *media: Any) -> Row:
    content: list[dict[str, str]] = []
    for number, medium in enumerate(media):
        kind = "video" if hasattr(medium, "frames") else "image"
        content += [{"type": "text", "text": f"Piece {number + 1}:"}, {"type": kind}]
    content.append({"type": "text", "text": "Which piece is which?"})
    return {
        "id": name,
        "prompt": [{"role": "user", "content": content}],
        "images": [medium for medium in media if not hasattr(medium, "frames")],
        "videos": [medium for medium in media if hasattr(medium, "frames")],
    }


def _negative(row: Row) -> Row:
    from dataclasses import replace

    from PIL import ImageOps

    images = [ImageOps.invert(image) for image in row["images"]]
    return row | {"images": images, "videos": [replace(clip, frames=255 - clip.frames) for clip in row["videos"]]}


def _within(apart: float, what: str = "nats") -> str:
    if not apart <= LIMIT:  # NaN too
        raise ContractError(f"off by {apart:.1e} {what}; at most {LIMIT:g} is rounding")
    return f"{apart:.0e}".replace("e-0", "e-").replace("0e+00", "0")


def _media_are_right(kind: str) -> Callable[[_Case], str]:
    def holds(case: _Case) -> str:
        import torch

        from jigsaw.models.shared_prefix import completion_log_probabilities

        rows = case.rows[kind]
        figure = _within(case.apart(rows))
        groups = case.groups(rows)
        with torch.no_grad():
            seen, other = (
                completion_log_probabilities(case.model, case.processor, those, groups)
                for those in (rows, [_negative(row) for row in rows])
            )
        for row, first, second in zip(rows, seen, other, strict=True):
            if float((torch.cat(first) - torch.cat(second)).abs().max()) < PIXELS_COUNT:
                raise ContractError(f"prompt {row['id']}: other pixels change no log-probability")
        return figure

    holds.__doc__ = f"Log-probabilities of groups of four completions, {kind}; they change with the pixels. In nats."
    return holds


def _shared_prompts_are_right(case: _Case) -> str:
    """A prompt once for its group, with dense and block masks, in nats; gradients, relative to the norm of all."""
    rows = case.every_row
    apart = max(case.apart(rows), _with_blocks(case, rows))
    figure = _within(apart)
    first, second = (_gradients(case, case.model, rows, shared=shared) for shared in (True, False))
    return f"{figure}, gradients {_within(_relative(first, second), 'of their norm')}"


def _with_blocks(case: _Case, rows: Sequence[Row]) -> float:
    """As `_Case.apart`, by the block masks that long sequences take on a GPU."""
    import torch

    from jigsaw.models.prompt_batch import PromptBatch
    from jigsaw.models.shared_prefix import log_probabilities

    model = deepcopy(case.model).requires_grad_(False)
    groups = case.groups(rows)
    flat = [torch.tensor(tokens) for group in groups for tokens in group]
    owner = [number for number, group in enumerate(groups) for _ in group]
    ids = torch.nn.utils.rnn.pad_sequence(flat, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(tokens) for tokens in flat], batch_first=True)
    if case.family.model_type == "neo_chat":
        model.set_attn_implementation("flex_attention")
    prompts = PromptBatch.encode(model, case.processor, rows, "cpu")
    with torch.no_grad():
        ours, _ = log_probabilities(model, prompts, owner, ids, mask, blocks=True)
        dense, _ = log_probabilities(case.model, prompts, owner, ids, mask, blocks=False)
    return float((ours - dense).abs().max())


def _gradients(case: _Case, model: Any, rows: Sequence[Row], **options: Any) -> dict[str, Any]:
    """Gradients of a weighted sum of all log-probabilities."""
    import torch

    from jigsaw.models.shared_prefix import completion_log_probabilities

    groups = case.groups(rows)
    found = completion_log_probabilities(model, case.processor, rows, groups, **options)
    scores = torch.cat([tokens for group in found for tokens in group])
    weights = torch.rand(len(scores), generator=torch.Generator().manual_seed(1)) - 0.3
    model.zero_grad()
    (scores * weights).sum().backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    return gradients


def _relative(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """The largest difference of a parameter's gradient, relative to the norm of all gradients."""
    import torch

    if first.keys() != second.keys():
        raise ContractError(f"other parameters have gradients: {sorted(first.keys() ^ second.keys())[:3]}")
    whole = float(torch.stack([gradient.norm() for gradient in second.values()]).norm())
    return max(float((first[name] - gradient).norm()) for name, gradient in second.items()) / whole


def _left_padding_is_right(case: _Case) -> str:
    """Prompts of unequal lengths in one batch, each completion behind a copy of its own. In nats."""
    return _within(case.apart(case.every_row, shared=False))


def _gradient_checkpointing_is_right(case: _Case) -> str:
    """Gradients of layers that are computed again, relative to the norm of all."""
    rows = case.every_row
    plain = _gradients(case, case.model, rows)
    model = deepcopy(case.model).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    passes: list[str] = []
    layers = [name for name, module in model.named_modules() if getattr(module, "gradient_checkpointing", None)]
    layers = [name for name in layers if not any(other.startswith(f"{name}.") for other in layers)]
    for name in layers:
        model.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: passes.append(name))
    found = _relative(_gradients(case, model, rows), plain)
    if not layers or any(passes.count(name) < 2 for name in layers):
        raise ContractError(
            f"of {len(layers)} layers {sum(passes.count(name) > 1 for name in layers)} are computed again"
        )
    return _within(found, "of their norm")


def _adapters_train(case: _Case) -> str:
    """Adapters on all linear layers: no change at first, all gradients are theirs, merged names stay the same."""
    import torch

    from jigsaw.config.schema import LoraSection, ModelSection
    from jigsaw.engines.weights import merged_weights
    from jigsaw.models.shared_prefix import completion_log_probabilities
    from jigsaw.training.trainable import prepare

    rows = case.every_row
    groups = case.groups(rows)
    section = ModelSection(path=str(case.folder), lora=LoraSection(rank=2))
    model, _ = prepare(deepcopy(case.model), section, sharded=False)
    with torch.no_grad():
        first, second = (
            torch.cat([tokens for group in found for tokens in group])
            for found in (
                completion_log_probabilities(one, case.processor, rows, groups) for one in (case.model, model)
            )
        )
    _within(float((first - second).abs().max()))
    gradients = _gradients(case, model, rows)
    adapters = [name for name, _ in model.named_parameters() if ".lora_B." in name]
    if idle := [name for name in adapters if name not in gradients or not float(gradients[name].abs().max())]:
        raise ContractError(f"{len(idle)} of {len(adapters)} adapters get no gradient, the first is {idle[0]}")
    if other := [name for name in gradients if ".lora_" not in name]:
        raise ContractError(f"a weight that is not trained gets a gradient: {other[0]}")
    names, wanted = {name for name, _ in merged_weights(model)}, {name for name, _ in case.model.named_parameters()}
    if names != wanted:
        raise ContractError(f"merged weights have other names: {sorted(names ^ wanted)[:3]}")
    return f"{len(adapters)} adapters"


def _parts_freeze(case: _Case) -> str:
    """Every parameter belongs to a part, and a frozen part gets no gradient while the others do."""
    from jigsaw.config.schema import ModelSection
    from jigsaw.training.trainable import prepare

    names = [name for name, _ in case.model.named_parameters()]
    owned = {part: case.family.parameters_of(part, names, None) or set() for part in case.family.parts}
    if left := set(names).difference(*owned.values()):
        raise ContractError(f"{len(left)} parameters belong to no part, such as {min(left)}")
    trained = _gradients(case, case.model, case.every_row).keys()
    for part, own in owned.items():
        if not own:
            raise ContractError(f"no parameter belongs to {part}")
        section = ModelSection(path=str(case.folder), freeze=(part,))
        model, _ = prepare(deepcopy(case.model), section, sharded=False)
        if (found := _gradients(case, model, case.every_row).keys()) != trained - own:
            raise ContractError(f"with {part} frozen, gradients differ at {sorted(found ^ (trained - own))[:2]}")
    return f"{len(owned)} parts"


def _transformers_samples_the_same(case: _Case) -> str:
    """The likeliest tokens through the repeated cache against `generate` of each prompt alone."""
    from jigsaw.engines import Sampling
    from jigsaw.engines.transformers import TransformersEngine
    from jigsaw.models.load import vision_token_ids
    from jigsaw.models.prompts import processor_inputs

    rows, forbidden = case.every_row, vision_token_ids(case.processor)
    end, limit = case.processor.tokenizer.eos_token_id, 12
    settings = Sampling(
        count=2,
        max_tokens=limit,
        top_k=1,
        seeds=tuple(range(len(rows))),
        forbidden_tokens=tuple(forbidden),
        end_tokens=(end,),
    )
    sampled = TransformersEngine(case.model, case.processor).generate(rows, settings).tokens
    total = 0
    for number, row in enumerate(rows):
        inputs = processor_inputs(case.processor, [row])
        options = {"max_new_tokens": limit, "do_sample": False, "suppress_tokens": forbidden, "eos_token_id": end}
        expected = case.model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :].tolist()
        total += len(expected)
        if sampled[2 * number : 2 * number + 2] != [expected, expected]:
            raise ContractError(f"prompt {row['id']}: other tokens than `generate`: {sampled[2 * number]}, {expected}")
    return f"{total} of {total} tokens"


def _vllm_agrees(case: _Case) -> str:
    """The log-probabilities under which vLLM samples, beside the trainer and with its present weights. In nats."""
    if find_spec("vllm") is None:
        raise NotChecked("vLLM is not installed")
    import torch

    from jigsaw.config.schema import RolloutSection
    from jigsaw.engines import Sampling
    from jigsaw.engines.vllm import beside_trainer
    from jigsaw.engines.weights import Policy
    from jigsaw.models.load import vision_token_ids
    from jigsaw.models.prompt_batch import PromptBatch
    from jigsaw.models.shared_prefix import completion_log_probabilities

    rows, forbidden = case.every_row, tuple(vision_token_ids(case.processor))
    rollout = RolloutSection(engine="vllm", max_model_len=1024)
    model = deepcopy(case.model)
    with torch.no_grad():  # weights that the engine has not read from the folder
        for parameter in model.parameters():
            parameter.mul_(0.95)
    with _vllm_refusals():
        engine = beside_trainer(model.config, case.processor, rollout, device="cpu", dtype="float32", seed=0)
        engine.sync(Policy(model))
    settings = Sampling(count=3, max_tokens=12, seeds=tuple(range(len(rows))), forbidden_tokens=forbidden)
    found = engine.generate(rows, settings, PromptBatch.encode(model, case.processor, rows, "cpu"))
    groups = [found.tokens[3 * number : 3 * number + 3] for number in range(len(rows))]
    with torch.no_grad():
        ours = completion_log_probabilities(model, case.processor, rows, groups, forbidden_tokens=forbidden)
    flat = torch.cat([tokens for group in ours for tokens in group])
    theirs = torch.tensor([value for values in found.log_probabilities or () for value in values])
    return _within(float((flat - theirs).abs().max()))


@contextmanager
def _vllm_refusals() -> Iterator[None]:
    """An architecture that this build of vLLM does not run on this device does not apply."""
    try:
        yield
    except Exception as error:
        raise Unknown(f"vLLM's build does not run it: {type(error).__name__}: {str(error).splitlines()[0]}") from error


def _evaluation_answers(case: _Case) -> str:
    """The checkpoint, opened again, gives the same greedy texts one by one and in batches."""
    from jigsaw.evaluation.generation import Generation, open_engine

    rows = case.every_row
    answers = open_engine(str(case.folder), Generation(max_new_tokens=8, batch_size=len(rows)))
    together, alone = answers(rows), [answers([row])[0] for row in rows]
    answers.close()
    if together != alone:
        raise ContractError(f"texts depend on the batch: {together} and {alone}")
    return f"{len(together)} texts"


def _zero3_trains(case: _Case) -> str:
    """Images and videos mixed on two processes with ZeRO-3: losses and rewards against those of one process."""
    if find_spec("deepspeed") is None:
        raise NotChecked("DeepSpeed is not installed")
    return _within(trains_on_two_processes(_only_tiny(case)), "of a loss or reward")


def _tiny_preset_trains(case: _Case) -> str:
    """The recipe `quickstart` with a tiny model and few steps, to its report."""
    return trains_to_the_end(_only_tiny(case))


def _only_tiny(case: _Case) -> str:
    if not case.tiny:
        raise NotChecked("runs are tried with tiny architectures alone")
    return case.name


PROPERTIES: Mapping[str, Callable[[_Case], str]] = {
    "one image": _media_are_right("one image"),
    "several images": _media_are_right("several images"),
    "video": _media_are_right("video"),
    "shared prompt": _shared_prompts_are_right,
    "left padding": _left_padding_is_right,
    "gradient checkpointing": _gradient_checkpointing_is_right,
    "LoRA": _adapters_train,
    "freezing by part": _parts_freeze,
    "ZeRO-3": _zero3_trains,
    "transformers sampling": _transformers_samples_the_same,
    "vLLM colocate agreement": _vllm_agrees,
    "evaluation": _evaluation_answers,
    "tiny preset": _tiny_preset_trains,
}
"""Name -> a function that returns a figure, or raises where the property does not hold."""
