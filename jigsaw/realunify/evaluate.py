"""`jigsaw realunify MODEL`: runs the parts of RealUnify whose files and tools are available.

In: a checkpoint, the folder of the authors' files, plug-ins and a judge. Out: a folder with `items.jsonl` (all answers,
written batch by batch; a second call continues there) and `realunify.json` with the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jigsaw.answering.generation import GREEDY, Generate, Generation, open_engine, require_greedy
from jigsaw.answering.store import Store, file_stamp, make_folder
from jigsaw.errors import JigsawError
from jigsaw.files import write_atomically
from jigsaw.models.load import require_checkpoint
from jigsaw.progress import progress_bar
from jigsaw.realunify.endpoint import Endpoint, split_spec
from jigsaw.realunify.errors import diagnosis
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
    remote = _chat_model(model, "MODEL", timeout, max_completion_tokens=generation.max_new_tokens)
    if remote is None:
        require_checkpoint(model)
    root = data_root / "realunify" if (data_root / "realunify").is_dir() else data_root
    specs = {"--editor": editor, "--generator": generator}
    specs |= {"--oracle-editor": oracle_editor, "--oracle-generator": oracle_generator}
    given: dict[str, Any] = {name: load_function(spec, name, timeout=timeout) for name, spec in specs.items() if spec}
    if judge:
        given["--judge"] = Endpoint("--judge", judge, judge_model, timeout=judge_timeout)
    if oracle_reader:
        given["--oracle-reader"] = _chat_model(oracle_reader, "--oracle-reader", timeout)
        if given["--oracle-reader"] is None:
            form = "MODEL@URL, NAME@http://HOST:PORT/v1"
            raise JigsawError(f"--oracle-reader: {oracle_reader!r} is not of the form {form}")
    parts, missing = _available(root, given, limit)
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
            engine, pictures = remote or open_engine(model, generation), out / "pictures"
            judge_tool = given.get("--judge")
            own = Tools(engine, given.get("--editor"), given.get("--generator"), judge_tool, grid, pictures)
            edit, draw = given.get("--oracle-editor"), given.get("--oracle-generator")
            oracle = Tools(given.get("--oracle-reader"), edit, draw, judge_tool, grid, pictures, options="--oracle-")
            _answer(parts, store, own, oracle, generation.batch_size)
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


def _chat_model(spec: str, option: str, timeout: float, **options: Any) -> Generate | None:
    """The model of `MODEL@URL`; None for another spec. `options` are further fields of each request."""
    parts = split_spec(spec)
    return partial(Endpoint(option, parts[1], parts[0], timeout=timeout).answer, **options) if parts else None


def _key(record: Mapping[str, Any]) -> tuple[str, int]:
    return record["part"], record["at"]


def _records(store: Store, part: str, items: Sequence[Mapping[str, Any]]) -> list[Record]:
    """The stored answers to these items."""
    return [dict(store[part, item["at"]]) for item in items if (part, item["at"]) in store]


def _available(
    root: Path, given: Collection[str], limit: int | None
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """The items of each part that can run, and the reason for each other part; `given` are the options in use."""
    parts: dict[str, list[dict[str, Any]]] = {}
    missing: dict[str, str] = {}
    for part in FILES:
        options = [name for name in NEEDS.get(part, ()) if name not in given]
        try:
            if options:
                raise JigsawError(f"needs {', '.join(options[:-1])}{' and ' * (len(options) > 1)}{options[-1]}")
            parts[part] = read_items(root, part)[:limit]
        except JigsawError as error:
            missing[part] = str(error)
    return parts, missing


def _answer(
    parts: Mapping[str, Sequence[dict[str, Any]]], store: Store, own: Tools, oracle: Tools, batch_size: int
) -> None:
    """Answer the items without a stored answer, and store the answers batch by batch."""
    for part, items in parts.items():
        missing = [item for item in items if (part, item["at"]) not in store]
        tools = oracle if part.endswith("_oracle") else own
        with progress_bar(part, len(missing)) as bar:
            for batch in run_part(part, missing, tools, batch_size):
                store.add([{"part": part, **record} for record in batch])
                for _ in batch:
                    bar.advance()
