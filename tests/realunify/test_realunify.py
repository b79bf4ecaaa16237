"""`jigsaw realunify` on files in the authors' schema, with plug-ins and a judge behind HTTP."""

import json
import time

import pytest
from PIL import Image

from jigsaw.answering.generation import Generation
from jigsaw.errors import JigsawError
from jigsaw.pictures import mosaic
from jigsaw.realunify import evaluate as realunify_run
from jigsaw.realunify.endpoint import Endpoint
from jigsaw.realunify.evaluate import evaluate_realunify
from jigsaw.realunify.judge import ask, verdict
from jigsaw.realunify.log import realunify_text
from jigsaw.realunify.parts import cut

pytest.importorskip("openai")

COLOURS = ("red", "green", "blue", "yellow")
PLUGINS = """
from PIL import Image
def edit(image, prompt):
    assert prompt == "circle the cat"
    return Image.new("RGB", image.size, "white")
def draw(prompt):
    return Image.new("RGB", (8, 8), prompt.split()[-1])
def broken(*_):
    raise RuntimeError("out of paint")
"""


@pytest.fixture
def root(tmp_path):
    """A folder with one or two items per part; the picture has 2x2 shuffled tiles of one colour each."""
    folder = tmp_path / "realunify"
    folder.mkdir()
    shuffled = mosaic([Image.new("RGB", (28, 28), colour) for colour in ("blue", "red", "yellow", "green")], 2, 2)
    shuffled.save(folder / "a.png")
    choice = {"input_image": "a.png", "evaluation_prompt": "Which? A. cat B. dog C. cow D. owl", "answer": "B"}
    direct = [{"task_type": task, **choice} for task in ("mental_reconstruction", "mental_tracking")]
    questions = [{"question": "Is it red?", "answer": "yes"}, {"question": "Is it blue?", "answer": "no"}]
    files = {
        "GEU_direct": direct,
        "GEU_step": [{"task_type": "attentional_focusing", "edit_prompt": "circle the cat", **choice}],
        "UEG_direct": [
            {"task_type": "world_knowledge", "prompt": f"paint it {colour}", "question_list": questions}
            for colour in ("red", "blue")
        ],
        "UEG_step": [{"task_type": "code_to_image", "new_prompt": "Rewrite: the first", "question_list": questions}],
    }
    for name, items in files.items():
        (folder / f"{name}.json").write_text(json.dumps(items))
    (tmp_path / "plugins.py").write_text(PLUGINS)
    return tmp_path


class Model:
    """A model that orders tiles by colour and answers B if the upper left of the picture is red or white."""

    def __init__(self):
        self.num_rows = 0

    def __call__(self, rows):
        self.num_rows += len(rows)
        return [[self.completion_of(row)] for row in rows]

    def completion_of(self, row):
        images = row.get("images", ())
        if not images:
            return "a square in red"
        if len(images) > 1:
            colours = [image.getpixel((5, 5)) for image in images]
            wanted = [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in COLOURS]
            return ", ".join(str(colours.index(colour) + 1) for colour in wanted)
        corner = images[0].getpixel((5, 5))
        return "Based on a look, the answer is B." if corner in ((255, 0, 0), (255, 255, 255)) else "An owl: D"


@pytest.fixture
def engine(monkeypatch):
    model = Model()
    monkeypatch.setattr(realunify_run, "open_engine", lambda *_, **__: model)
    monkeypatch.setattr(realunify_run, "require_checkpoint", lambda _: None)
    return model


@pytest.fixture
def judge(server):
    """A server whose `replies` is a function of the picture's URL and the question."""
    server.replies = colour_judge

    def answer(request):
        picture, question = request.json["messages"][0]["content"]
        code, text = server.replies(picture["image_url"]["url"], question["text"])
        return code, {"choices": [{"message": {"content": text}}]}

    server.routes["/v1/chat/completions"] = answer
    return server


def colour_judge(address, question):
    import base64
    import io

    pixel = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).getpixel((0, 0))
    wanted = {"red": (255, 0, 0), "blue": (0, 0, 255)}[question.rstrip("?").split()[-1]]
    return 200, "Yes." if pixel == wanted else "No, not that I know."


def options(root, judge, **changes):
    tools = {"editor": f"{root}/plugins.py:edit", "generator": f"{root}/plugins.py:draw", "judge": judge.url}
    return tools | {"out": root / "out", "grid": (2, 2)} | changes


def test_a_checkpoint_of_another_family_is_evaluated(root, make_checkpoint):
    generation = Generation(max_new_tokens=4, batch_size=2)
    log = evaluate_realunify(make_checkpoint("qwen3_vl"), root, out=root / "out", grid=(2, 2), generation=generation)
    assert log.parts["GEU_direct"].shares["avg"].of == 2


def test_all_parts_are_evaluated_and_scored(root, engine, judge):
    log = evaluate_realunify("org/model", root, **options(root, judge))
    parts = log.parts
    assert set(log.missing) == {"GEU_oracle", "UEG_oracle"}
    assert parts["GEU_direct"].shares["MR-II"].value == 0.0  # red is not at the upper left of the shuffled picture
    assert parts["GEU_jigsaw"].shares["MR-II"].value == 100.0  # red is at the upper left of the reassembled picture
    assert parts["GEU_jigsaw"].valid_orders == 1
    assert parts["GEU_step"].shares["AF"].value == 100.0
    shares = parts["UEG_direct"].shares
    assert shares["WK"] == shares["avg"]
    assert (shares["WK"].value, shares["WK"].of) == (50.0, 2)
    assert parts["UEG_step"].shares["C2I"].value == 100.0
    assert (root / "out" / "pictures" / "UEG_step" / "0.png").is_file()
    text = realunify_text(log, root / "out")
    assert "| org/model, jigsaw |" in text
    assert "| BAGEL, direct (published) |" in text
    assert "| Gemini 2.5 Pro, specialist (published) |" in text


def test_without_tools_the_missing_parts_are_listed_and_the_others_run(root, engine, tmp_path):
    notes = []
    log = evaluate_realunify("org/model", root, out=tmp_path / "o", grid=(2, 2), note=notes.append)
    assert set(log.parts) == {"GEU_direct", "GEU_jigsaw"}
    assert log.missing["UEG_step"] == "needs --generator and --judge"
    assert log.missing["UEG_oracle"] == "needs --oracle-reader, --oracle-generator and --judge"
    assert notes[0] == "missing: GEU_step: needs --editor"


def test_stored_answers_are_not_generated_again(root, engine, judge):
    first = evaluate_realunify("org/model", root, **options(root, judge))
    num_rows = engine.num_rows
    with (root / "out" / "items.jsonl").open("a") as file:
        file.write('{"part": "GEU_dir')  # as a killed process leaves it
    assert evaluate_realunify("org/model", root, **options(root, judge)) == first
    assert engine.num_rows == num_rows
    with pytest.raises(JigsawError, match="has completions with max_new_tokens 1024, not 3"):
        evaluate_realunify("org/model", root, **options(root, judge, generation=Generation(max_new_tokens=3)))


def test_items_without_a_verdict_of_the_judge_are_counted_and_printed(root, engine, judge):
    judge.replies = lambda *_: (200, "It is not easy to know.")
    log = evaluate_realunify("org/model", root, **options(root, judge))
    assert log.parts["UEG_direct"].unjudged == 2
    assert "2 of 2 items have no verdict of the judge; they count as wrong" in realunify_text(log, root / "out")


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        (lambda *_: (401, "no"), "refuses with 401 Unauthorized"),
        (lambda *_: (503, "busy"), "refuses with 503 Service Unavailable"),
        (lambda *_: time.sleep(1) or (200, "yes"), "did not answer within 0.2 s"),
    ],
)
def test_a_failing_judge_is_an_error_and_results_are_kept(root, engine, judge, replies, message):
    judge.replies = replies
    with pytest.raises(JigsawError, match=f"--judge: .* {message}"):
        evaluate_realunify("org/model", root, **options(root, judge, judge_timeout=0.2))
    stored = json.loads((root / "out" / "realunify.json").read_text())
    assert set(stored["parts"]) == {"GEU_direct", "GEU_step", "GEU_jigsaw"}
    judge.replies = colour_judge
    assert "UEG_direct" in evaluate_realunify("org/model", root, **options(root, judge)).parts


def test_an_unreachable_judge_is_an_error():
    with pytest.raises(JigsawError, match="cannot be reached"):
        ask(Endpoint("--judge", "http://127.0.0.1:9/v1", "x"), Image.new("RGB", (2, 2)), "Is it red?")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("yes", True), ("No.", False), ("**Yes**, it is", True), ("not really", None), ("I know", None), ("", None)],
)
def test_verdicts_are_read_as_whole_words(text, expected):
    assert verdict(text) is expected


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("GEU_direct", [{"task_type": "mental_tracking", "answer": "A"}], "item 0 has no evaluation_prompt"),
        (
            "GEU_direct",
            [{"task_type": "mental_tracking", "evaluation_prompt": "?", "answer": "A", "image": "gone.png"}],
            "item 0: its picture gone.png is missing",
        ),
        (
            "GEU_direct",
            [{"task_type": "mental_tracking", "evaluation_prompt": "?", "answer": "A", "image": "../a.png"}],
            "item 0: its picture ../a.png leads out of that folder",
        ),
        ("GEU_direct", "{", "cannot be read"),
        ("GEU_direct", [{"task_type": "x", "evaluation_prompt": "?", "answer": "A"}], "task_type 'x' is not one of"),
        ("UEG_direct", None, "UEG_direct.json is missing"),
    ],
)
def test_broken_files_are_listed_and_the_other_parts_run(root, engine, judge, name, changed, message):
    path = root / "realunify" / f"{name}.json"
    if changed is None:
        path.unlink()
    else:
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    log = evaluate_realunify("org/model", root, **options(root, judge))
    assert message in log.missing[name]
    assert "GEU_step" in log.parts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation": Generation(samples=2)}, "--samples: 2; benchmarks need greedy decoding"),
        ({"editor": "nowhere"}, "--editor: 'nowhere' is not of the form"),
        ({"editor": "no_such_module:edit"}, "--editor: function no_such_module:edit: importing failed"),
        ({"generator": "{root}/plugins.py:broken"}, "--generator: the plug-in failed .*out of paint"),
    ],
)
def test_invalid_options_are_refused(root, engine, judge, changes, message):
    formatted = {key: value.format(root=root) if isinstance(value, str) else value for key, value in changes.items()}
    with pytest.raises(JigsawError, match=message):
        evaluate_realunify("org/model", root, **options(root, judge, **formatted))


def test_the_tiles_of_a_picture_give_the_picture():
    image = Image.radial_gradient("L").convert("RGB").resize((90, 60))
    tiles = cut(image, (2, 3))
    assert [tile.size for tile in tiles] == [(30, 30)] * 6
    assert mosaic(tiles, 2, 3).tobytes() == image.tobytes()
