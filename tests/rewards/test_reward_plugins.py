"""Loading and checking of rewards: entry points, dotted paths, files, factories, async functions, and the errors."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jigsaw import rewards
from jigsaw.rewards import RewardError, check_reward, describe_reward, get_metric, get_reward, list_rewards
from jigsaw.rewards.binding import build
from jigsaw.rewards.registry import find
from jigsaw.rewards.waiting import run_to_end

ROOT = Path(__file__).parents[2]
TEXTS = ["<think>a b c</think><answer>2, 1</answer>", "no"]
ANSWERS = [[2, 1], [2, 1]]


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A function that writes a plug-in file and returns the name of a reward in it."""
    monkeypatch.chdir(tmp_path)

    def write(body, name="reward"):
        Path("mine.py").write_text(body)
        return f"mine.py:{name}"

    return write


@pytest.fixture(scope="module")
def installed_example(tmp_path_factory):
    """A folder into which pip installed the example package."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "reward_plugin"  # building writes files next to the sources
    source.mkdir()
    for file in ("setup.cfg", "pyproject.toml", "jigsaw_brevity.py", "README.md"):
        (source / file).write_text((ROOT / "examples/reward_plugin" / file).read_text())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", str(target), str(source)], capture_output=True, text=True)
    if "No module named pip" in done.stderr:
        uv = ["uv", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        done = subprocess.run([*uv, "--target", str(target), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def test_an_installed_package_is_found_by_name(installed_example, monkeypatch):
    monkeypatch.syspath_prepend(str(installed_example))
    assert get_reward("brevity", limit=4)(TEXTS, ANSWERS) == [0.0, 0.75]
    assert get_reward("piece_talk", word="clip")(["clip 1"], [[1, 2]], num_pieces=[2]) == [0.5]
    assert get_metric("num_words")(["one two"], [[1]]) == [2.0]
    listed = {info.name: info for info in list_rewards()}
    assert listed["brevity"].source == "jigsaw-brevity 0.1.0: jigsaw_brevity:brevity"
    assert listed["brevity"].options == {"limit": "200"}
    assert listed["num_words"].kind == "metric"
    assert {"visual_jigsaw", "format", "valid", "place_accuracy"} <= set(listed)
    assert all(info.error is None and info.summary for info in listed.values())


def test_an_async_reward_stays_async_for_a_trainer_and_is_awaited_by_a_composition(installed_example, monkeypatch):
    monkeypatch.syspath_prepend(str(installed_example))
    reward = get_reward("slow_judge")
    assert asyncio.iscoroutinefunction(reward)
    assert asyncio.run(reward(TEXTS, ANSWERS)) == [1.0, None]
    composed = rewards.Composition(["slow_judge"])
    assert composed.score(TEXTS, {"answer": ANSWERS}) == {"slow_judge": [1.0, None]}

    async def within_a_loop():
        return composed.score(TEXTS, {"answer": ANSWERS})

    assert asyncio.run(within_a_loop()) == {"slow_judge": [1.0, None]}


def test_the_tests_of_the_example_package_pass(installed_example):
    tests = ROOT / "examples/reward_plugin/tests"
    paths = {"PYTHONPATH": f"{installed_example}:{ROOT}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tests), str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, env=paths, cwd=installed_example)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_dotted_path_and_a_file_load_the_same_reward(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples/reward_plugin"))
    from_path = get_reward("jigsaw_brevity:brevity", limit=4)
    from_file = get_reward(f"{ROOT}/examples/reward_plugin/jigsaw_brevity.py:brevity", limit=4)
    assert from_path(TEXTS, ANSWERS) == from_file(TEXTS, ANSWERS) == [0.0, 0.75]
    assert from_path.__name__ == "brevity"


def test_the_code_of_the_tutorial_runs(plugin):
    lines, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tutorials/own-reward.md").read_text(), re.DOTALL)
    assert len(lines.strip().splitlines()) < 20
    use = plugin(lines, "quick_and_right")
    assert check_reward(use).options == {"limit": "300"}
    styles = ["think"] * len(TEXTS)
    assert get_reward(use, limit=2)(TEXTS, ANSWERS, answer_style=styles) == [0.5, 0.0]
    assert get_reward(use)(TEXTS, ANSWERS, answer_style=styles) == [1.0, 0.0]
    assert get_reward(use)(["2, 1, 3"], [[2, 1, 3]], answer_style=["direct"]) == [1.0]


def test_a_reward_gets_completions_as_text_or_as_messages_as_it_needs(plugin):
    """Functions that read strings or TRL's messages give equal values in training and in scoring."""
    body = """
def letters(completions, **columns):
    return [len(completion) for completion in completions]

def chat(completions, **columns):
    return [len(completion[0]["content"]) for completion in completions]
"""
    for name in ("letters", "chat"):
        reward = get_reward(plugin(body, name))
        assert reward(["four"], [[1]]) == reward([[{"role": "assistant", "content": "four"}]], [[1]]) == [4.0]


def test_columns_are_passed_by_name_and_do_not_overwrite_options(plugin):
    use = plugin(
        """
def reward(completions, task, note=None, *, limit=1, id):
    return [limit if note is None else note[0] for _ in completions]

def greedy(completions, *, limit=1, **columns):
    return [limit + 10 * ("limit" in columns) for _ in completions]
"""
    )
    columns = {"task": ["image"], "id": ["x"], "limit": [7], "other": [8]}
    assert get_reward(use, limit=3)(["a"], [[1]], **columns) == [3.0]
    assert get_reward(use)(["a"], [[1]], note=[5], **columns) == [5.0]
    assert get_reward("mine.py:greedy", limit=3)(["a"], [[1]], **columns) == [3.0]
    assert describe_reward(use).columns == ("task", "id")


def test_a_class_is_a_factory_of_its_instances(plugin):
    use = plugin(
        """
class Reward:
    def __init__(self, *, bonus=1.0):
        self.bonus = bonus
    def __call__(self, completions, **columns):
        return [self.bonus] * len(completions)
""",
        "Reward",
    )
    assert get_reward(use, bonus=2)(["a"], [[1]]) == [2.0]


def test_an_edited_file_is_loaded_again(plugin):
    use = plugin("def reward(completions, **columns):\n    return [1.0] * len(completions)\n")
    assert get_reward(use)(["a"]) == [1.0]
    plugin("def reward(completions, **columns):\n    return [22.0] * len(completions)\n")
    assert get_reward(use)(["a"]) == [22.0]


def test_a_reward_with_custom_columns_is_checked_when_it_is_called(plugin):
    use = plugin("def reward(completions, caption):\n    return [c in t for t, c in zip(completions, caption)]\n")
    assert check_reward(use).columns == ("caption",)
    assert get_reward(use)(["a cat"], [[1]], caption=["cat"]) == [1.0]
    with pytest.raises(RewardError, match=r"needs the column caption, .*; did you mean captions\?"):
        get_reward(use)(["a cat"], [[1]], captions=["cat"])


BROKEN = {
    "return 1": "returned int instead of a list; the contract is reward(completions, answer, **columns)",
    "return 'abcd'": "returned str instead of a list",
    "return [1.0]": "returned 1 values for 4 completions; return one for each",
    "return [1.0, float('nan'), 1.0, 1.0]": "returned nan at position 1; return a finite number, or None for no value",
    "return [float('inf')] * 4": "returned inf at position 0",
    "return ['1'] * 4": "returned str at position 0; return a float or None",
    "return (1.0 for _ in completions)": "returned generator instead of a list",
    "return [1 / 0] * 4": "mine.py:2) raised ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize(("line", "message"), BROKEN.items())
def test_an_error_names_the_broken_reward_and_its_line(plugin, line, message):
    use = plugin(f"def reward(completions, **columns):\n    {line}\n")
    with pytest.raises(RewardError) as error:
        get_reward(use)
    assert message in str(error.value)
    assert "mine.py:" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("reward = 3", "mine.py:reward is int, not a function"),
        ("def rewrad(completions): return []", "mine.py has no 'reward'; did you mean rewrad?"),
        (
            "def reward(texts): return [1.0 for t in texts]",
            "counts as a factory, and it needs the argument texts",
        ),
        ("def reward(): return 3", "counts as a factory, but it returned int instead of a function"),
        (
            "def reward(): return lambda texts: []",
            "has no parameter `completions`, and neither has what it returned",
        ),
        ("def reward(): raise OSError('no model')", "(mine.py:1) raised OSError when it was called: no model"),
        ("def reward(completions, /): return []", "takes completions by position only"),
        ("import nonsense_module\ndef reward(completions): return []", "importing failed at mine.py:1 with ModuleNot"),
        ("x = 1\nraise SystemExit(3)", "importing failed at mine.py:2 with SystemExit: 3"),
        ("def reward(completions:\n", "importing failed at mine.py:1 with SyntaxError"),
        ("import asyncio\ndef reward(completions): return asyncio.sleep(1)", "returned an awaitable; use `async def`"),
    ],
)
def test_a_file_without_a_usable_reward_is_refused(plugin, body, message):
    with pytest.raises(RewardError) as error:
        get_reward(plugin(body))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("use", "args", "message"),
    [
        ("visual_jigsw", {}, "no reward is called 'visual_jigsw'; did you mean visual_jigsaw?"),
        ("visual_jigsaw", {"discuont": 0.1}, "no argument 'discuont'; did you mean discount?"),
        ("visual_jigsaw", {"discount": "0.1"}, "argument discount is '0.1'; it must be a number, such as 0.2"),
        ("visual_jigsaw", {"discount": None}, "argument discount is None; it must be a number"),
        ("visual_jigsaw", {"format_gate": 1}, "argument format_gate is 1; it must be true or false"),
        ("visual_jigsaw", {"discount": 7}, "visual_jigsaw: discount is 7; it must be from 0 to 1"),
        ("valid", {}, "valid is a metric, which is logged and not optimised; list it under `metrics:`"),
        ("no_such_file.py:reward", {}, "there is no file no_such_file.py"),
        ("no_such_file.py", {}, "is a file; name the reward in it: no_such_file.py:NAME"),
        ("no.such.module:reward", {}, "install the package, or give file.py:name"),
        ("jigsaw.rewards.text:lenght", {}, "rewards.text has no 'lenght'; did you mean length?"),
    ],
)
def test_wrong_names_and_arguments_are_refused(use, args, message):
    with pytest.raises(RewardError) as error:
        get_reward(use, **args)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_error_about_a_missing_module_in_the_same_folder_names_pythonpath(tmp_path):
    (tmp_path / "uses_helpers.py").write_text("import helper_of_a_reward")
    use = f"{tmp_path / 'uses_helpers.py'}:any"
    with pytest.raises(RewardError, match=r"install the package that has it$"):
        get_reward(use)
    (tmp_path / "helper_of_a_reward.py").touch()
    with pytest.raises(RewardError, match=rf"helper_of_a_reward is in the same folder.*PYTHONPATH={tmp_path}$"):
        get_reward(use)


def test_a_name_that_two_packages_register_is_refused(tmp_path, monkeypatch):
    info = tmp_path / "greedy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greedy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[jigsaw.rewards]\nvisual_jigsaw = greedy:reward\nbroken = greedy:reward\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RewardError, match=r"is registered by greedy 1\.0 .* and visual-jigsaw .*; use the dotted path"):
        find("visual_jigsaw")
    broken = {info.name: info for info in list_rewards()}["broken"]
    assert broken.kind == "" and "ModuleNotFoundError" in broken.error


def test_describing_a_reward_shows_its_options_without_calling_it(plugin):
    use = plugin("def reward(completions, answer, *, a=1, b='x'):\n    '''Line one.\n\n    More.'''\n    raise OSError")
    info = describe_reward(use)
    assert (info.kind, info.summary, info.source) == ("reward", "Line one.", "mine.py:1")
    assert info.options == {"a": "1", "b": "'x'"}
    assert info.columns == ("answer",)
    assert "More." in info.doc


def test_importing_the_package_imports_no_heavy_module():
    heavy = ("torch", "numpy", "pydantic", "jigsaw.data", "jigsaw.tasks", "asyncio")
    code = f"import sys, jigsaw.rewards; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_exception_of_an_async_reward_passes_through_a_running_loop():
    async def fails():
        raise OSError("gone")

    async def within_a_loop():
        run_to_end(fails())

    with pytest.raises(OSError, match="gone"):
        asyncio.run(within_a_loop())


def test_a_callable_without_a_signature_is_refused():
    with pytest.raises(RewardError, match="no readable signature"):
        build("zip", zip, {})


def test_the_decorators_mark_a_function_as_reward_or_metric(plugin):
    use = plugin(
        """
from jigsaw.rewards import metric, reward

@reward
def short(completions, *, limit=4, **columns):
    return [len(text) < limit for text in completions]

@metric
def length(completions, **columns):
    return [float(len(text)) for text in completions]

def bare(completions, **columns):
    return [0.5] * len(completions)
""",
        "short",
    )
    assert get_reward(use, limit=3)(["ab", "abc"]) == [1.0, 0.0]
    assert get_reward("mine.py:bare")(["ab"]) == [0.5]
    assert [describe_reward(f"mine.py:{name}").kind for name in ("short", "length", "bare")] == [
        "reward",
        "metric",
        "reward",
    ]
    with pytest.raises(RewardError, match="is a metric, which is logged and not optimised"):
        get_reward("mine.py:length")


def test_a_file_with_a_task_and_a_reward_runs_once(tmp_path, monkeypatch):
    """Otherwise each would have its own classes, and the file's set-up code would run twice."""
    monkeypatch.chdir(tmp_path)
    body = (ROOT / "examples/task_plugin/jigsaw_zoom.py").read_text()
    body += """

with open("runs.txt", "a") as runs:
    runs.write("run ")


def near(completions, **columns):
    return [1.0] * len(completions)


def edit(image, prompt):
    return image
"""
    Path("both.py").write_text(body)
    from jigsaw.realunify.plugins import load_function
    from jigsaw.tasks import get_task

    task = get_task("both.py:ZoomTask")
    assert get_reward("both.py:near")(["a"]) == [1.0]
    assert get_reward(f"{tmp_path}/both.py:near")(["a"]) == [1.0]
    assert load_function("both.py:edit", "--editor").__module__ == type(task).__module__
    assert Path("runs.txt").read_text() == "run "
    Path("both.py").write_text(body + "\nEDITED = True\n")
    assert get_reward("both.py:near")(["a"]) == [1.0]
    assert Path("runs.txt").read_text() == "run run ", "an edited file runs again"
