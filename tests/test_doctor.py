"""`jigsaw doctor`: missing requirements are reported with a remedy, and only those that break a run fail."""

import json
import shutil
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from rich.console import Console

from jigsaw import doctor
from jigsaw.cli import command as cli
from jigsaw.doctor import TESTED, Finding, examine, findings_table

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


@pytest.fixture(scope="module")
def findings():
    return {finding.what: finding for finding in examine()}


def test_all_requirements_of_a_run_are_examined(findings):
    others = {
        "visual-jigsaw",
        "python",
        "torchvision import",
        "device",
        "vllm",
        "deepspeed",
        "samples",
        "disk",
        "memory",
    }
    assert others | set(TESTED) == set(findings)


def test_nothing_is_broken_on_the_machine_that_runs_the_tests(findings):
    assert [what for what, finding in findings.items() if finding.broken and what != "disk"] == []


def test_every_finding_that_is_not_good_has_a_remedy(findings):
    for finding in findings.values():
        assert finding.status in ("good", "note", "broken")
        assert finding.found
        assert finding.status == "good" or finding.remedy, finding


def test_the_tested_versions_are_those_of_the_constraints():
    pinned = dict(line.split("==") for line in CONSTRAINTS.read_text().split() if "==" in line)
    for name, version in TESTED.items():
        assert pinned[name].split("+")[0] == version, name


def test_another_version_is_a_note_and_a_missing_package_is_broken(monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: "0.0.1")
    assert doctor._package("trl") == Finding("trl", "note", "0.0.1", f"tested with {TESTED['trl']}")

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", missing)
    finding = doctor._package("trl")
    assert finding.broken
    assert "make install" in finding.remedy


def test_a_local_build_of_the_tested_version_is_good(monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: f"{TESTED['torch']}+cpu")
    assert doctor._package("torch").status == "good"


def test_a_torchvision_that_does_not_match_torch_is_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert doctor._torchvision_works().broken


def test_missing_sample_packages_are_a_note_with_the_extra_to_install(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    finding = doctor._samples()
    assert finding.status == "note"
    assert all(name in finding.found for name in doctor.SAMPLES)
    assert finding.remedy == "uv pip install -c constraints.txt -e '.[samples]'"


def test_a_full_disk_is_broken(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=2**20)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    disk, _ = doctor._space()
    assert disk.broken
    assert disk.remedy == "a quickstart needs 2 GiB"


def test_the_table_keeps_the_brackets_of_an_extra():
    console = Console(width=200)
    with console.capture() as shown:
        console.print(findings_table([Finding("vllm", "note", "not [there]", "pip install 'visual-jigsaw[gpu]'")]))
    assert "pip install 'visual-jigsaw[gpu]'" in shown.get()
    assert "not [there]" in shown.get()


@pytest.mark.parametrize("status, code", [("good", 0), ("note", 0), ("broken", 1)])
def test_the_exit_code_is_1_if_a_run_would_fail(monkeypatch, capsys, status, code):
    finding = Finding("disk", status, "0 GiB", "make room")
    monkeypatch.setattr(doctor, "examine", lambda: [finding])
    monkeypatch.setattr(cli, "_quiet_libraries", lambda debug: None)
    for arguments in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["jigsaw", "doctor", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
        out = capsys.readouterr().out
        if arguments:
            assert json.loads(out) == [finding.to_json()]
        else:
            assert "make room" in out
