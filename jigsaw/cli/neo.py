"""The commands below `jigsaw neo`: from-qwen3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from jigsaw.cli.printing import AsJson

app = typer.Typer(
    help="NEO, the native vision-language model.",
    epilog="Example: jigsaw neo from-qwen3 Qwen/Qwen3-1.7B-Base models/neo-2b",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _group() -> None:
    """NEO, the native vision-language model."""


@app.command("from-qwen3", epilog="Example: jigsaw neo from-qwen3 Qwen/Qwen3-1.7B-Base models/neo-2b --pre-buffer 12")
def from_qwen3(
    qwen3: Annotated[str, typer.Argument(metavar="QWEN3_DIR", help="A Qwen3 checkpoint folder or hub id.")],
    out: Annotated[Path, typer.Argument(help="Folder of the NEO checkpoint.")],
    pre_buffer: Annotated[int, typer.Option(min=0, help="New layers before the language model's.")] = 12,
    pre_buffer_from: Annotated[
        str | None, typer.Option(help="A trained NEO: take its pre-Buffer, patch embedding and hw projections.")
    ] = None,
    rope: Annotated[
        Literal["native", "1d"],
        typer.Option(help="Positions of image tokens; 1d is an ablation: one behind the other."),
    ] = "native",
    image_attention: Annotated[
        Literal["mixed", "causal"], typer.Option(help="What image tokens see; causal is an ablation.")
    ] = "mixed",
    seed: Annotated[int, typer.Option(help="Seed of the new weights.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Start a NEO from a Qwen3 checkpoint, as the paper does."""
    from jigsaw.models.neo.from_qwen3 import start_from_qwen3

    made = start_from_qwen3(
        qwen3,
        out,
        pre_buffer=pre_buffer,
        pre_buffer_from=pre_buffer_from,
        seed=seed,
        rope_variant=rope,
        image_attention=image_attention,
    )
    if as_json:
        typer.echo(json.dumps(made, indent=2))
    else:
        typer.echo(
            f"{made['out']}: {made['parameters']:,} parameters, {made['layers']} layers, pre-Buffer {pre_buffer}"
        )
