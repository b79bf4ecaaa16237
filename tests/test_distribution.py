"""The distributions: the wheel, built from the source distribution, is complete and works in a clean environment."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("tasks", "rewards", "recipes")
"""Top-level folders that are imported and shipped as subpackages of `jigsaw`."""
pytestmark = pytest.mark.slow


def run(*command, cwd, **environment):
    words = [str(word) for word in command]
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(words, cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution of the tracked and the not ignored files."""
    source = tmp_path_factory.mktemp("source")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in listed:
        if (ROOT / name).exists() and name.split("/")[0] not in ("tests", "docs", "benchmarks", "experiments"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name, follow_symlinks=False)
    run(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--skip-dependency-check",
        "--outdir",
        source / "dist",
        source,
        cwd=source,
    )
    (built,) = (source / "dist").glob("*.whl")
    assert len(list((source / "dist").glob("*.tar.gz"))) == 1
    return built


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """A virtual environment with the wheel and the dependencies of this environment."""
    place = tmp_path_factory.mktemp("clean")
    venv.create(place, with_pip=True)
    (library,) = place.glob("lib/python*/site-packages")
    run(place / "bin/pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=place)
    # Python does not read .pth files of a folder that a .pth file adds, which excludes the editable install
    (library / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place


def test_every_file_of_the_packages_ships(wheel):
    shipped = set(zipfile.ZipFile(wheel).namelist())
    tracked = run("git", "ls-files", "jigsaw", *LINKED, cwd=ROOT).splitlines()
    files = [name for name in tracked if (ROOT / name).is_file()]
    expected = [name if name.startswith("jigsaw/") else f"jigsaw/{name}" for name in files]
    assert [name for name in expected if name not in shipped] == []
    assert not [name for name in shipped if name.split("/")[0] in LINKED]


def test_the_installed_package_is_the_wheel(clean, tmp_path):
    code = "from jigsaw import rewards, tasks; print(rewards.__file__, tasks.__file__)"
    for file in run(clean / "bin/python", "-c", code, cwd=tmp_path).split():
        assert file.startswith(str(clean))


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["tasks"],
        ["rewards"],
        ["launch", "quickstart", "--dry-run"],
        ["launch", "image-qwen2.5-vl-7b", "--tiny", "--dry-run"],
        ["tasks", "check", "image"],
    ],
    ids=" ".join,
)
def test_the_installed_command_runs(clean, tmp_path, words):
    assert run(clean / "bin/jigsaw", *words, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
