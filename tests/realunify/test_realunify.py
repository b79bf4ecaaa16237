"""RealUnify from files in the authors' schema, with plug-ins and a judge behind real HTTP."""

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
    """One item of each kind; the picture is 2x2 tiles in one colour each, shuffled."""
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
    """Sees colours: orders tiles red, green, blue, yellow; answers B where red is at the upper left, or all white."""

    def __init__(self):
        self.asked = 0

    def __call__(self, rows):
        self.asked += len(rows)
        return [[self.say(row)] for row in rows]

    def say(self, row):
        images = row.get("images", ())
        if not images:
            return "a square in red"
        if len(images) > 1:
            seen = [image.getpixel((5, 5)) for image in images]
            wanted = [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in COLOURS]
            return ", ".join(str(seen.index(colour) + 1) for colour in wanted)
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
    """A server whose `replies` are a function of the question and the picture's bytes."""
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
    asked = {"red": (255, 0, 0), "blue": (0, 0, 255)}[question.rstrip("?").split()[-1]]
    return 200, "Yes." if pixel == asked else "No, not that I know."


def options(root, judge, **changes):
    tools = {"editor": f"{root}/plugins.py:edit", "generator": f"{root}/plugins.py:draw", "judge": judge.url}
    return tools | {"out": root / "out", "grid": (2, 2)} | changes


def test_a_checkpoint_of_another_family_is_opened_and_answers(root, make_checkpoint):
    generation = Generation(max_new_tokens=4, batch_size=2)
    found = evaluate_realunify(make_checkpoint("qwen3_vl"), root, out=root / "out", grid=(2, 2), generation=generation)
    assert found.parts["GEU_direct"].shares["avg"].of == 2


def test_all_parts_run_and_are_counted(root, engine, judge):
    found = evaluate_realunify("org/model", root, **options(root, judge))
    parts = found.parts
    assert set(found.missing) == {"GEU_oracle", "UEG_oracle"}
    assert parts["GEU_direct"].shares["MR-II"].value == 0.0  # shuffled, red is elsewhere
    assert parts["GEU_jigsaw"].shares["MR-II"].value == 100.0  # put back, it is on the upper left
    assert parts["GEU_jigsaw"].valid_orders == 1
    assert parts["GEU_step"].shares["AF"].value == 100.0
    shares = parts["UEG_direct"].shares
    assert shares["WK"] == shares["avg"]
    assert (shares["WK"].value, shares["WK"].of) == (50.0, 2)
    assert parts["UEG_step"].shares["C2I"].value == 100.0
    assert (root / "out" / "pictures" / "UEG_step" / "0.png").is_file()
    text = realunify_text(found, root / "out")
    assert "| org/model, jigsaw |" in text
    assert "| BAGEL, direct (published) |" in text
    assert "| Gemini 2.5 Pro, specialist (published) |" in text


def test_without_tools_the_rest_runs_and_what_lacks_is_told(root, engine, tmp_path):
    told = []
    found = evaluate_realunify("org/model", root, out=tmp_path / "o", grid=(2, 2), note=told.append)
    assert set(found.parts) == {"GEU_direct", "GEU_jigsaw"}
    assert found.missing["UEG_step"] == "needs --generator and --judge"
    assert found.missing["UEG_oracle"] == "needs --oracle-reader, --oracle-generator and --judge"
    assert told[0] == "missing: GEU_step: needs --editor"


def test_answers_are_not_asked_for_twice(root, engine, judge):
    first = evaluate_realunify("org/model", root, **options(root, judge))
    asked = engine.asked
    with (root / "out" / "items.jsonl").open("a") as file:
        file.write('{"part": "GEU_dir')  # what a kill leaves
    assert evaluate_realunify("org/model", root, **options(root, judge)) == first
    assert engine.asked == asked
    with pytest.raises(JigsawError, match="has completions with max_new_tokens 1024, not 3"):
        evaluate_realunify("org/model", root, **options(root, judge, generation=Generation(max_new_tokens=3)))


def test_a_judge_that_answers_nonsense_is_counted_and_told(root, engine, judge):
    judge.replies = lambda *_: (200, "It is not easy to know.")
    found = evaluate_realunify("org/model", root, **options(root, judge))
    assert found.parts["UEG_direct"].unjudged == 2
    assert "2 of 2 items have no verdict of the judge; they count as wrong" in realunify_text(found, root / "out")


@pytest.mark.parametrize(
    ("replies", "told"),
    [
        (lambda *_: (401, "no"), "refuses with 401 Unauthorized"),
        (lambda *_: (503, "busy"), "refuses with 503 Service Unavailable"),
        (lambda *_: time.sleep(1) or (200, "yes"), "did not answer within 0.2 s"),
    ],
)
def test_a_judge_that_refuses_or_times_out_ends_in_a_line_and_results_so_far_stay(root, engine, judge, replies, told):
    judge.replies = replies
    with pytest.raises(JigsawError, match=f"--judge: .* {told}"):
        evaluate_realunify("org/model", root, **options(root, judge, judge_timeout=0.2))
    kept = json.loads((root / "out" / "realunify.json").read_text())
    assert set(kept["parts"]) == {"GEU_direct", "GEU_step", "GEU_jigsaw"}
    judge.replies = colour_judge
    assert "UEG_direct" in evaluate_realunify("org/model", root, **options(root, judge)).parts


def test_a_judge_that_is_not_there_is_told():
    with pytest.raises(JigsawError, match="cannot be reached"):
        ask(Endpoint("--judge", "http://127.0.0.1:9/v1", "x"), Image.new("RGB", (2, 2)), "Is it red?")


@pytest.mark.parametrize(
    ("text", "found"),
    [("yes", True), ("No.", False), ("**Yes**, it is", True), ("not really", None), ("I know", None), ("", None)],
)
def test_verdicts_are_whole_words(text, found):
    assert verdict(text) is found


@pytest.mark.parametrize(
    ("name", "changed", "told"),
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
def test_broken_files_are_named_and_the_rest_runs(root, engine, judge, name, changed, told):
    path = root / "realunify" / f"{name}.json"
    if changed is None:
        path.unlink()
    else:
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    found = evaluate_realunify("org/model", root, **options(root, judge))
    assert told in found.missing[name]
    assert "GEU_step" in found.parts


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"generation": Generation(samples=2)}, "--samples: 2; benchmarks need greedy decoding"),
        ({"editor": "nowhere"}, "--editor: 'nowhere' is not of the form"),
        ({"editor": "no_such_module:edit"}, "--editor: function no_such_module:edit: importing failed"),
        ({"generator": "{root}/plugins.py:broken"}, "--generator: the plug-in failed .*out of paint"),
    ],
)
def test_options_that_cannot_be_are_refused(root, engine, judge, changes, told):
    filled = {key: value.format(root=root) if isinstance(value, str) else value for key, value in changes.items()}
    with pytest.raises(JigsawError, match=told):
        evaluate_realunify("org/model", root, **options(root, judge, **filled))


def test_tiles_put_back_are_the_picture():
    image = Image.radial_gradient("L").convert("RGB").resize((90, 60))
    tiles = cut(image, (2, 3))
    assert [tile.size for tile in tiles] == [(30, 30)] * 6
    assert mosaic(tiles, 2, 3).tobytes() == image.tobytes()
