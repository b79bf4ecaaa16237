"""The subcommands of `jigsaw neo`: from-qwen3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from jigsaw.cli.printing import AsJson

app = typer.Typer(
    help="Commands for NEO, a native vision-language model.",
    epilog="Example: jigsaw neo from-qwen3 Qwen/Qwen3-1.7B-Base models/neo-2b",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _group() -> None:
    """Commands for NEO, a native vision-language model."""


@app.command("from-qwen3", epilog="Example: jigsaw neo from-qwen3 Qwen/Qwen3-1.7B-Base models/neo-2b")
def from_qwen3(
    qwen3: Annotated[str, typer.Argument(metavar="QWEN3", help="A Qwen3 checkpoint folder or hub id.")],
    out: Annotated[Path, typer.Argument(help="Folder of the NEO checkpoint, to be written.")],
    pre_buffer: Annotated[
        int, typer.Option(min=0, help="Layers of the pre-Buffer, before those of the language model.")
    ] = 12,
    pre_buffer_from: Annotated[
        str | None,
        typer.Option(help="A trained NEO whose pre-Buffer, patch embedding and hw projections are copied."),
    ] = None,
    rope: Annotated[
        Literal["native", "1d"],
        typer.Option(help="Positions of image tokens: time, row and column, or 1d for an ablation."),
    ] = "native",
    image_attention: Annotated[
        Literal["mixed", "causal"],
        typer.Option(help="Attention of image tokens: to their whole image, or causal for an ablation."),
    ] = "mixed",
    seed: Annotated[int, typer.Option(help="Random seed of the new weights.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Initialise a NEO checkpoint from Qwen3, as in the paper."""
    from jigsaw.models.neo.from_qwen3 import start_from_qwen3

    summary = start_from_qwen3(
        qwen3,
        out,
        pre_buffer=pre_buffer,
        pre_buffer_from=pre_buffer_from,
        seed=seed,
        rope_variant=rope,
        image_attention=image_attention,
    )
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        counts = f"{summary['parameters']:,} parameters, {summary['layers']} layers"
        typer.echo(f"{summary['out']}: {counts}, {pre_buffer} of them the pre-Buffer")
