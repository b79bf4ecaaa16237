"""`jigsaw realunify MODEL`: runs the parts of RealUnify whose files and tools are available.

In: a checkpoint, the folder of the authors' files, plug-ins and a judge. Out: a folder with `items.jsonl` (all answers,
written batch by batch; a second call continues there) and `realunify.json` with the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.answering.generation import GREEDY, Generation, open_engine, require_greedy
from jigsaw.answering.store import Store, file_stamp, make_folder
from jigsaw.errors import JigsawError
from jigsaw.files import write_atomically
from jigsaw.models.load import require_checkpoint
from jigsaw.progress import progress_bar
from jigsaw.realunify.endpoint import ChatModel, Endpoint, split_spec
from jigsaw.realunify.errors import diagnosis
from jigsaw.realunify.judge import Judge
from jigsaw.realunify.log import REALUNIFY_FILE, RealUnifyLog, summary
from jigsaw.realunify.parts import FILES, NEEDS, Record, Tools, read_items, run_part
from jigsaw.realunify.plugins import load_function
from jigsaw.results.log_file import command_line, to_json, versions


def evaluate_realunify(
    model: str,
    data_root: Path,
    *,
    out: Path,
    editor: str | None = None,
    generator: str | None = None,
    judge: str | None = None,
    judge_model: str = "judge",
    judge_timeout: float = 120.0,
    oracle_reader: str | None = None,
    oracle_editor: str | None = None,
    oracle_generator: str | None = None,
    timeout: float = 300.0,
    grid: tuple[int, int] = (3, 3),
    generation: Generation = GREEDY,
    limit: int | None = None,
    note: Callable[[str], object] = lambda _: None,
) -> RealUnifyLog:
    """Run each part whose files and tools are available.

    Args:
        model: checkpoint folder, hub id, or `MODEL@URL` of an OpenAI-compatible server.
        data_root: folder with `GEU_direct.json` and the other files, or with a folder `realunify` that has them.
        out: folder for the files above.
        editor, generator: plug-ins or `MODEL@URL`, see `plugins`.
        judge: address of an OpenAI-compatible server, up to `/v1`.
        judge_model: name of the judge on that server.
        judge_timeout: seconds for one reply of the judge.
        oracle_reader: strong understanding model, `MODEL@URL`; it rewrites prompts and reads edited pictures.
        oracle_editor, oracle_generator: strong models that edit and draw, in the form of `editor` and `generator`.
        timeout: seconds for one answer of any other endpoint.
        grid: rows and columns of Mental Reconstruction's pictures, for `GEU_jigsaw`.
        generation: engine, precision, batch size and completion limit; decoding must be greedy.
        limit: maximum number of items of each part.
        note: called with a line for each missing part before the first one runs.

    Raises:
        JigsawError: no part can run, or a tool fails; the results so far are stored.
    """
    require_greedy(generation)
    remote = _chat_model(model, "MODEL", timeout, generation.max_new_tokens)
    if remote is None:
        require_checkpoint(model)
    root = data_root / "realunify" if (data_root / "realunify").is_dir() else data_root
    draw = load_function(generator, "--generator", timeout=timeout) if generator else None
    edit = load_function(editor, "--editor", timeout=timeout) if editor else None
    judge_tool = Judge(judge, judge_model, timeout=judge_timeout) if judge else None
    reader = _chat_model(oracle_reader, "--oracle-reader", timeout) if oracle_reader else None
    if oracle_reader and reader is None:
        raise JigsawError(f"--oracle-reader: {oracle_reader!r} is not of the form MODEL@URL, NAME@http://HOST:PORT/v1")
    strong_edit = load_function(oracle_editor, "--oracle-editor", timeout=timeout) if oracle_editor else None
    strong_draw = load_function(oracle_generator, "--oracle-generator", timeout=timeout) if oracle_generator else None
    oracle = Tools(reader, strong_edit, strong_draw, judge_tool, grid, out / "pictures", options="--oracle-")
    tools_by_option = {"--editor": edit, "--generator": draw, "--judge": judge_tool, "--oracle-reader": reader}
    tools_by_option |= {"--oracle-editor": strong_edit, "--oracle-generator": strong_draw}
    parts, missing = _available(root, {name for name, tool in tools_by_option.items() if tool is None}, limit)
    for part, why in missing.items():
        note(f"missing: {part}: {why}")
    if not parts:
        raise JigsawError(f"--data-root: {root} has no part of RealUnify that can run")
    settings: dict[str, Any] = {"model": model, "model_stamp": file_stamp(Path(model)), **generation.settings()}
    settings |= {"editor": editor, "generator": generator, "grid": list(grid)}
    settings |= {"judge_model": judge_model if judge else None, "oracle_reader": oracle_reader}
    settings |= {"oracle_editor": oracle_editor, "oracle_generator": oracle_generator}
    make_folder(out)
    with Store(out / "items.jsonl", settings, _key) as store:
        try:
            opened = remote or open_engine(model, generation)
            tools = Tools(opened, edit, draw, judge_tool, grid, out / "pictures", oracle)
            _answer(parts, store, tools, generation.batch_size)
        finally:
            records = {part: _records(store, part, items) for part, items in parts.items()}
            outcomes = {kind: diagnosis(kind, parts, records) for kind in ("GEU", "UEG")}
            log = RealUnifyLog(
                argv=command_line(),
                versions=versions(),
                settings=settings,
                parts={part: summary(part, of_part) for part, of_part in records.items() if of_part},
                missing=missing,
                diagnosis={kind: counts for kind, counts in outcomes.items() if counts},
            )
            write_atomically(out / REALUNIFY_FILE, to_json(log))
    return log


def _chat_model(spec: str, option: str, timeout: float, max_tokens: int | None = None) -> ChatModel | None:
    """The model of `MODEL@URL`; None for another spec."""
    parts = split_spec(spec)
    return ChatModel(Endpoint(option, parts[1], parts[0], timeout=timeout), max_tokens) if parts else None


def _key(record: Mapping[str, Any]) -> tuple[str, int]:
    return record["part"], record["at"]


def _records(store: Store, part: str, items: Sequence[Mapping[str, Any]]) -> list[Record]:
    """The stored answers to these items."""
    return [dict(store[part, item["at"]]) for item in items if (part, item["at"]) in store]


def _available(
    root: Path, absent: Collection[str], limit: int | None
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """The items of each part that can run, and the reason for each other part.

    Args:
        root: folder of the authors' files.
        absent: options of the tools that are missing.
        limit: maximum number of items of each part.
    """
    parts: dict[str, list[dict[str, Any]]] = {}
    missing: dict[str, str] = {}
    for part in FILES:
        options = [name for name in NEEDS.get(part, ()) if name in absent]
        try:
            if options:
                raise JigsawError(f"needs {', '.join(options[:-1])}{' and ' * (len(options) > 1)}{options[-1]}")
            parts[part] = read_items(root, part)[:limit]
        except JigsawError as error:
            missing[part] = str(error)
    return parts, missing


def _answer(parts: Mapping[str, Sequence[dict[str, Any]]], store: Store, tools: Tools, batch_size: int) -> None:
    """Answer the items without a stored answer, and store the answers batch by batch."""
    for part, items in parts.items():
        missing = [item for item in items if (part, item["at"]) not in store]
        with progress_bar(part, len(missing)) as bar:
            for batch in run_part(part, missing, tools, batch_size):
                store.add([{"part": part, **record} for record in batch])
                for _ in batch:
                    bar.advance()
