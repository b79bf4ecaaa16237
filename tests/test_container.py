"""The container image for GPU nodes: the Containerfile is valid and the lock file meets the requirements."""

import configparser
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CONTAINERFILE = (ROOT / "Containerfile").read_text()
LOCKED = dict(line.split("==") for line in (ROOT / "gpu.lock").read_text().split() if "==" in line)


def requirements():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = [setup["options"]["install_requires"]]
    lines += [setup["options.extras_require"][extra] for extra in ("gpu", "samples")]
    required = [
        line.strip() for text in lines for line in text.splitlines() if line.strip() and not line.startswith("#")
    ]
    return [Requirement(line) for line in required]


def test_the_containerfile_passes_the_linter():
    linter = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    done = subprocess.run([linter, ROOT / "Containerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_the_lock_meets_every_requirement(requirement):
    assert requirement.specifier.contains(LOCKED[requirement.name.lower()])


def test_the_lock_has_the_versions_of_the_constraints():
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert {name: LOCKED[name] for name in pinned if name in LOCKED} == {
        name: version for name, version in pinned.items() if name in LOCKED
    }
    assert {"torch", "transformers", "trl"} <= pinned.keys() & LOCKED.keys()


def test_copied_files_exist_and_are_not_ignored():
    not_ignored = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (.*)", CONTAINERFILE, re.MULTILINE) for name in line.split()[:-1]}
    assert copied <= not_ignored
    assert all((ROOT / name).exists() for name in copied)


def test_hosted_ci_runs_the_ci_script():
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
