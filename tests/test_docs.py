"""The commands and code blocks of README, docs and examples are valid, and those of the tutorials run.

The language of a fenced block decides how it is tested:

    bash      Commands. Each `jigsaw` line is parsed with the real verbs and options, and a recipe that it launches is
              loaded. Third-party commands and commands that need GPUs have a remark: `# needs a GPU`, `# needs the
              network`. On the pages in RUN the cheap verbs run, one after the other, in a folder with synthetic media
    python    Runs on the pages in RUN; a block that begins with `# name.py` is saved as the file of that name instead.
              On other pages it needs a remark, as commands do
    yaml      A recipe, or a part of one that extends the quickstart; it is loaded and validated
    text, none    Diagrams and listings; lines in them that begin with `jigsaw` are parsed too
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import typer
import yaml
from PIL import Image

from jigsaw.cli import command as cli
from jigsaw.config.loading import find_recipe, load_recipe
from jigsaw.rewards.answers import ANSWER_KINDS

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "examples/*/README.md", ".github/*.md", "tests/README.md")
    for path in ROOT.glob(pattern)
)
RUN = [f"docs/tutorials/{name}.md" for name in ("image", "video", "depth", "own-reward", "own-task", "other-answers")]
RUN += [
    "README.md",
    "docs/tutorials/several-nodes.md",
    "docs/guides/difficulty.md",
    "docs/reference/data-format.md",
    "docs/reference/python.md",
    "docs/reference/run-folder.md",
]
TRAINS = ["docs/guides/notebook.md"]
"""Pages whose Python blocks train and share variables; they run in the slow tests."""
CHEAP = {"build", "preview", "check", "audit", "score", "tasks", "rewards"}
"""Verbs that need no model. The other verbs have their own tests; here only their options are parsed."""

LANGUAGES = {"bash", "python", "yaml", "text", "", "json", "bibtex"}
COMMAND_NAMES = {"jigsaw", "make", "python", "pytest"}
REMARK = re.compile(r"needs (a GPU|GPU nodes|the network)")
BLOCK = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block with its page and line."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[2], re.sub(f"^{match[1]}", "", match[3], flags=re.M))
        for match in BLOCK.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def commands_of(block: Block) -> Iterator[tuple[list[str], str]]:
    """Yields the words and the remark of every command; of a listing, only of lines that begin with `jigsaw`."""
    for line in block.text.replace("\\\n", " ").splitlines():
        command, _, remark = line.partition(" #") if not line.lstrip().startswith("#") else ("", "", line)
        if block.language != "bash":
            command = re.split(r" {3,}", command.strip())[0]  # a description follows the command
            if not command.removeprefix(".venv/bin/").startswith("jigsaw "):
                continue
        for part in re.split(r" && | > \S+|; ", command):
            if part.strip() and (block.language == "bash" or part.strip().startswith("jigsaw ")):
                yield shlex.split(part.replace(".venv/bin/", "")), remark


COMMANDS = [
    pytest.param(words, remark, id=f"{block}: {' '.join(words)}"[:90])
    for block in BLOCKS
    if block.language in ("bash", "text", "")
    for words, remark in commands_of(block)
]


def test_pages_and_commands_are_collected():
    assert len(PAGES) > 15
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_has_a_language_that_is_tested(block):
    assert block.language in LANGUAGES, f"{block}: {block.language!r} is none of {sorted(LANGUAGES)}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_a_python_block_runs_or_has_a_remark(block):
    assert str(block.page) in RUN + TRAINS or REMARK.search(block.text), f"{block}: add the page to RUN, or a remark"


@pytest.mark.parametrize("words, remark", COMMANDS)
def test_commands_have_existing_verbs_and_options(words, remark):
    if words[0] not in COMMAND_NAMES:
        assert REMARK.search(remark), f"{words[0]} is a third-party command: add a remark of what it needs"
        return
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert all(word in targets or "=" in word for word in words[1:])
    if words[0] != "jigsaw":
        return
    command = typer.main.get_command(cli.app)
    arguments = words[1:]
    while hasattr(command, "commands") and arguments and arguments[0] in command.commands:
        command = command.commands[arguments.pop(0)]
    context = command.make_context("jigsaw", [word for word in arguments if word != "--debug"])
    if words[1] == "launch" and not context.params["recipe"].isupper():
        check_launch(context.params, remark)


def check_launch(options: dict, remark: str) -> None:
    """Asserts that a launched shipped recipe loads with its overrides and has a remark if it needs GPUs."""
    name = options["recipe"]
    if name.endswith(".yaml") and not (ROOT / "recipes" / name).exists():
        return  # a recipe of the page, which is tested as a yaml block
    find_recipe(name)
    recipe = load_recipe(name, [item.replace("/home/me", "data") for item in options["overrides"] or ()])
    starts_no_run = options["dry_run"] or options["slurm"] or options["tiny"]
    assert starts_no_run or recipe.distributed.gpus is None or REMARK.search(remark), "remark that it needs a GPU"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=str)
def test_recipes_load(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for other in blocks_of(block.page):
        if name := written_file(other):
            Path(name).write_text(other.text)
    for number, text in enumerate(alternatives(block.text)):
        content = yaml.safe_load(text)
        complete = {"name", "data"} <= set(content) or "defaults" in content
        file = tmp_path / f"recipe-{number}.yaml"
        file.write_text(text if complete else f"defaults: quickstart\n{text}")
        load_recipe(str(file), ["output=runs/x"])


def alternatives(text: str) -> list[str]:
    """Splits a block that shows two ways to write a key into its alternatives."""
    keys = re.findall(r"^(\w+):", text, re.MULTILINE)
    if len(keys) == len(set(keys)):
        return [text]
    return [part for part in re.split(r"(?=^\w+:)", text, flags=re.MULTILINE) if part.strip()]


def written_file(block: Block) -> str | None:
    """Returns the name of the file in which a page asks to save a block, if any."""
    name = re.match(r"# (\w+\.py)\n", block.text) if block.language == "python" else None
    return name and name[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the media, puzzle sets and runs that the pages refer to."""
    from jigsaw.data import build_puzzles, load_puzzles
    from jigsaw.evaluation import score_predictions
    from jigsaw.testing import write_sources
    from jigsaw.testing.synthetic_sources import _video as write_video

    place = tmp_path_factory.mktemp("newcomer")
    for kind, name in (("image", "photos"), ("video", "clips"), ("rgbd", "rgbd")):
        write_sources(kind, place / name)
    for number in range(12):  # enough pictures that some of them are held out
        picture = Image.frombytes("RGB", (4, 3), Random(number).randbytes(36)).resize((160, 120))
        picture.resize((360, 270)).save(
            place / "photos" / f"more-{number}.png"
        )  # large enough for tiles after a crop with margins
        picture.save(place / "rgbd" / "color" / f"more-{number}.png")
        shutil.copy(place / "rgbd" / "depth" / f"{number % 2}.png", place / "rgbd" / "depth" / f"more-{number}.png")
        if number < 6:
            write_video(place / "clips", 10 + number)
    build_puzzles("image", place / "photos", place / "data/photos-2x2", config={"grid": "2x2"}, workers=1)
    rows = load_puzzles(place / "data/photos-2x2").with_format(None)
    lines = [json.dumps({"id": row["id"], "text": "<think>so</think><answer>1, 2, 3, 4</answer>"}) for row in rows]
    (place / "predictions.jsonl").write_text("\n".join(lines))
    score_predictions(place / "data/photos-2x2", place / "predictions.jsonl", out=place / "runs/quickstart")
    log = place / "runs/quickstart/metrics.jsonl"
    log.write_text('{"stage": "grpo", "step": 1, "reward": 0.25, "seconds": 9.5}\n')
    return place


@pytest.mark.parametrize("page", RUN)
def test_a_page_runs_from_top_to_bottom(page, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(cli, "_quiet_libraries", lambda debug: None)
    ran = 0
    for block in blocks_of(Path(page)):
        if block.language == "python":
            if name := written_file(block):
                Path(name).write_text(block.text)
            else:
                exec(compile(block.text, str(block), "exec"), {"__name__": "docs"})
            ran += 1
        for words, _ in commands_of(block) if block.language == "bash" else ():
            if words[0] == "jigsaw" and words[1] in CHEAP:
                monkeypatch.setattr(
                    sys, "argv", [*words, "--workers", "1"] if words[1] in ("build", "check") else words
                )
                with pytest.raises(SystemExit) as ended:
                    cli.main()
                assert ended.value.code == 0, f"{block}: {' '.join(words)}: {capsys.readouterr().err}"
                ran += 1
    assert ran


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image", "video", "depth", "own-reward", "own-task"])
def test_a_tutorial_builds_puzzles_and_trains_on_them(name, folder, tmp_path, monkeypatch):
    """Runs the commands and the recipe of the page in a new folder, with two steps of each stage."""
    for media in ("photos", "clips", "rgbd"):
        (tmp_path / media).symlink_to(folder / media)
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(Path(f"docs/tutorials/{name}.md"))
    recipe = next(block.text for block in blocks if block.language == "yaml")
    for block in blocks:
        if file := written_file(block):
            Path(file).write_text(block.text)
        for words, _ in commands_of(block) if block.language == "bash" else ():
            if words[:2] == ["jigsaw", "build"]:
                assert run_command([*words, "--workers", "1"]).returncode == 0
    Path("recipe.yaml").write_text(recipe)
    small = [
        "sft.max_steps=2",
        "grpo.max_steps=2",
        "grpo.prompts_per_step=4",
        "evaluation.every=0",
        "output=runs/tried",
    ]
    small += ["data.eval.0.limit=4"]
    if name == "own-reward":  # this tutorial changes only the rewards
        small += ["data.photos=photos", "data.eval.1.build.source=photos", "data.eval.1.limit=4"]
    done = run_command(["jigsaw", "launch", "recipe.yaml", *small])
    assert done.returncode == 0, done.stderr
    assert Path("runs/tried/DONE").is_file()
    built = {Path(path).name for path in json.loads(Path("runs/tried/data.json").read_text())["train"]}
    if name in ("image", "video", "depth"):
        assert built < {path.name for path in Path("data").iterdir()}
        assert len(list(Path("data").iterdir())) == len(re.findall("jigsaw build", (ROOT / blocks[0].page).read_text()))


def run_command(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_trl_script_of_the_readme_trains(folder, make_checkpoint, monkeypatch):
    """Runs one step with a tiny model instead of the released one."""
    from jigsaw.data import build_puzzles

    monkeypatch.chdir(folder)
    config = {"grid": "2x2", "tile": 28, "answer_style": "direct"}
    build_puzzles("image", "photos", "data/for-trl", config=config, workers=1)
    script = next(block.text for block in blocks_of(Path("README.md")) if written_file(block) == "train.py")
    small = "max_steps=1, max_completion_length=8, use_cpu=True, report_to=[], save_strategy='no'"
    changes = {"Qwen/Qwen3-VL-2B-Instruct": str(make_checkpoint()), "data/puzzles": "data/for-trl"}
    for old, new in {**changes, "max_steps=100": small}.items():
        assert old in script
        script = script.replace(old, new)
    Path("train.py").write_text(script)
    done = subprocess.run([sys.executable, "train.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'reward'" in done.stdout or "reward" in done.stderr


def test_generated_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_links_between_pages_are_not_broken():
    """This includes pages that are not part of the site, which the generator does not check."""
    for page in PAGES:
        text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


@pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="needs the extra `docs`")
def test_the_site_builds_without_a_warning_and_loads_nothing_from_the_network(tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--config-file", "mkdocs.yml", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "build" / "docs").rglob("*.html"))
    assert len(pages) > 20
    remote = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*?src=[\"']?(?:https?:)?//|<link\b[^>]*?stylesheet[^>]*?//[^>]*>"
    )
    for page in pages:
        assert [tag for tag in remote.findall(page.read_text()) if "//" in tag] == [], page


@pytest.mark.slow
@pytest.mark.parametrize("page", TRAINS)
def test_a_page_that_trains_runs_from_top_to_bottom(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {"__name__": "docs"}
    for block in blocks_of(Path(page)):
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
    assert names["folder"].is_dir()


def test_the_messages_of_troubleshooting_are_those_of_the_code():
    page = (ROOT / "docs/guides/troubleshooting.md").read_text()
    files = [file for folder in ("jigsaw", "tasks", "rewards") for file in (ROOT / folder).rglob("*.py")]
    source = re.sub(r'"\n\s*f?"', "", "".join(file.read_text() for file in files))  # adjacent literals are joined
    source = re.sub(r"^ *(#.*|>>>.*)$", "", source, flags=re.MULTILINE)
    lines = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    pieces = [piece.strip(" .:?") for line in lines for piece in re.split(r"\.\.\.| [NM] | M$", line)]
    assert len(lines) > 20
    assert [piece for piece in pieces if piece and piece not in source] == []


def test_the_tutorials_have_a_task_of_each_kind_of_answer_in_under_60_lines():
    lines_of = {}
    for page in ("docs/tutorials/own-task.md", "docs/tutorials/other-answers.md"):
        for block in blocks_of(Path(page)):
            if block.language == "python" and re.search(r"class \w+\((?:Square|Segment)?Task\)", block.text):
                kind = re.search(r'kind="(\w+)"', block.text)
                name = kind[1] if kind else "choice" if "Question(" in block.text else "order"
                lines_of[name] = block.text.count("\n")
    assert set(lines_of) == set(ANSWER_KINDS) and max(lines_of.values()) < 60, lines_of
