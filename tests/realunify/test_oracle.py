"""RealUnify's oracle setting, an evaluated model behind HTTP, and the error categories."""

import base64
import io
import json

import pytest
from PIL import Image

from jigsaw.errors import JigsawError
from jigsaw.realunify.errors import categories, diagnosis
from jigsaw.realunify.evaluate import evaluate_realunify
from jigsaw.realunify.log import realunify_text

pytest.importorskip("openai")


@pytest.fixture
def root(tmp_path):
    Image.new("RGB", (16, 16), "black").save(tmp_path / "a.png")
    choice = {"task_type": "mental_tracking", "input_image": "a.png", "answer": "B"}
    geu = [choice | {"evaluation_prompt": f"{number}: which? A. x B. y", "edit_prompt": "white"} for number in (1, 2)]
    questions = [{"question": "Is it red?", "answer": "yes"}]
    ueg = {"task_type": "world_knowledge", "question_list": questions}
    files = {
        "GEU_direct": [{key: value for key, value in item.items() if key != "edit_prompt"} for item in geu],
        "GEU_step": geu,
        "UEG_direct": [ueg | {"prompt": "the colour of a fire engine"}],
        "UEG_step": [ueg | {"new_prompt": "Rewrite: the colour of a fire engine"}],
    }
    for name, items in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(items))
    return tmp_path


@pytest.fixture
def models(server):
    """A server with a weak model and a strong one, which reads white pictures and knows that fire engines are red."""

    def picture(colour):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8), colour).save(stream, "PNG")
        return 200, {"data": [{"b64_json": base64.b64encode(stream.getvalue()).decode()}]}

    def color_of(part):
        return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].split(",")[1]))).getpixel((0, 0))

    def chat(request):
        body = request.json
        *images, text = body["messages"][0]["content"]
        reply = "I do not know"
        if body["model"] == "judge":
            reply = "yes" if color_of(images[0]) == (255, 0, 0) else "no"
        elif body["model"] == "strong" and not images:
            reply = "red"
        elif body["model"] == "strong" and color_of(images[0]) == (255, 255, 255):
            reply = "B"
        elif body["model"] == "weak" and text["text"].startswith("1:"):
            reply = "A"
        return 200, {"choices": [{"message": {"content": reply}}]}

    def draw(request):
        return picture("red" if request.json["prompt"] == "red" else "blue")

    server.routes["/v1/chat/completions"] = chat
    server.routes["/v1/images/generations"] = draw
    server.routes["/v1/images/edits"] = lambda request: picture("white" if b"strong" in request.body else "black")
    return server


def run(root, models, out, **changes):
    strong = f"strong@{models.url}"
    options = {"editor": f"weak@{models.url}", "generator": f"weak@{models.url}", "judge": models.url}
    options |= {"oracle_reader": strong, "oracle_editor": strong, "oracle_generator": strong}
    return evaluate_realunify(f"weak@{models.url}", root, **(options | {"out": out} | changes))


def test_the_oracle_uses_the_strong_models_for_all_steps(root, models, tmp_path):
    log = run(root, models, tmp_path / "out")
    assert set(log.missing) == {"GEU_jigsaw"}
    assert log.parts["GEU_oracle"].shares["avg"].value == 100.0
    assert log.parts["UEG_oracle"].shares["avg"].value == 100.0
    assert log.parts["GEU_step"].shares["avg"].value == 0.0
    assert log.parts["GEU_direct"].errors == {"MT": {"no option": 1, "wrong option": 1}}
    assert log.parts["UEG_step"].errors == {"WK": {"all questions failed": 1}}
    assert log.diagnosis == {"GEU": {"MT": {"ability": 2}}, "UEG": {"WK": {"ability": 1}}}
    text = realunify_text(log, tmp_path / "out")
    assert f"| strong@{models.url} + strong@{models.url}, oracle |" in text
    assert "| task | no option | wrong option |" in text
    assert "- ability: wrong both ways, right with strong models" in text


def test_a_second_call_sends_no_request(root, models, tmp_path):
    first = run(root, models, tmp_path / "out")
    num_requests = len(models.requests)
    assert run(root, models, tmp_path / "out") == first
    assert len(models.requests) == num_requests
    with pytest.raises(JigsawError, match="oracle_reader"):
        run(root, models, tmp_path / "out", oracle_reader=f"other@{models.url}")


def test_a_declined_request_counts_as_wrong_and_the_others_continue(root, models, tmp_path):
    declined = 400, {"error": {"message": "not allowed", "code": "content_policy_violation"}}
    models.routes["/v1/images/edits"] = lambda _: declined
    models.routes["/v1/images/generations"] = lambda _: declined
    log = run(root, models, tmp_path / "out")
    assert log.parts["GEU_oracle"].errors == {"MT": {"declined": 2}}
    assert log.parts["UEG_direct"].errors == {"WK": {"declined": 1}}


def test_the_error_for_a_failing_oracle_names_it_and_results_are_kept(root, models, tmp_path):
    models.routes["/v1/images/edits"] = lambda request: (404, {}) if b"strong" in request.body else (200, {"data": []})
    with pytest.raises(JigsawError, match=r"--editor: .* answered without a picture"):
        run(root, models, tmp_path / "out")
    with pytest.raises(JigsawError, match=r"--oracle-editor: .* refuses with 404 Not Found"):
        run(root, models, tmp_path / "other", editor=None)
    assert set(json.loads((tmp_path / "other" / "realunify.json").read_text())["parts"]) == {"GEU_direct"}


def test_an_oracle_reader_must_be_an_endpoint(root, models, tmp_path):
    with pytest.raises(JigsawError, match=r"--oracle-reader: 'reader\.py:ask' is not of the form MODEL@URL"):
        run(root, models, tmp_path / "out", oracle_reader="reader.py:ask")


def record(at, right, **more):
    return {"at": at, "task": "mental_tracking", "right": right, "letter": "A"} | more


def test_each_combination_of_the_three_settings_has_a_diagnosis():
    outcomes = {
        (1, 1, 0): "right",
        (0, 1, 0): "not combined",
        (1, 0, 1): "harmed by steps",
        (0, 0, 1): "ability",
        (0, 0, 0): "beyond the oracle",
    }
    item = {"task_type": "mental_tracking", "picture": "a"}
    items = [item | {"at": at, "evaluation_prompt": str(at)} for at in range(5)]
    parts = {f"GEU_{way}": items for way in ("direct", "step", "oracle")}
    records = {
        f"GEU_{way}": [record(at, bool(bits[number])) for at, bits in enumerate(outcomes)]
        for number, way in enumerate(("direct", "step", "oracle"))
    }
    assert diagnosis("GEU", parts, records) == {"MT": dict.fromkeys(sorted(outcomes.values()), 1)}
    assert diagnosis("GEU", parts, records | {"GEU_oracle": []}) == {}


def test_items_are_matched_by_their_content():
    one, two = ({"task_type": "mental_tracking", "picture": "a", "evaluation_prompt": text} for text in "xy")
    parts = {
        "GEU_direct": [one | {"at": 0}, two | {"at": 1}],
        "GEU_step": [two | {"at": 0}],
        "GEU_oracle": [two | {"at": 0}],
    }
    records = {"GEU_direct": [record(0, True), record(1, False)], "GEU_step": [record(0, True)]}
    records["GEU_oracle"] = records["GEU_step"]
    assert diagnosis("GEU", parts, records) == {"MT": {"not combined": 1}}


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"letter": None}, "no option"),
        ({"order": None}, "invalid order"),
        ({"unchanged": True}, "picture unchanged"),
        ({"order": [1, 2]}, "wrong option"),
        ({"verdicts": [None, True], "unjudged": True, "answered": 1}, "unjudged"),
        ({"verdicts": [False, True], "unjudged": False, "answered": 1}, "some questions failed"),
        ({"verdicts": [False, True], "unjudged": False, "answered": 0}, "all questions failed"),
    ],
)
def test_each_wrong_item_has_one_error_category(more, name):
    assert categories([record(0, False, **more), record(1, True, **more)]) == {"MT": {name: 1}}
