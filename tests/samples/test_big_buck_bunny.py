"""The download of Big Buck Bunny: cached, verified by its hash, and an error with the remedy if it fails."""

import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import av
import pytest

from jigsaw.errors import JigsawError
from jigsaw.samples import big_buck_bunny

VIDEO = b"not really a video"


def write_archive(folder: Path, member: str = "resources/bbb.mp4", content: bytes = VIDEO) -> None:
    """Writes a source distribution, as pip downloads it, with a zip file inside."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as pack:
        pack.writestr(f"moviepy_10_minutes/{member}", content)
    with tarfile.open(folder / "moviepy-2.2.1.tar.gz", "w:gz") as outer:
        entry = tarfile.TarInfo(f"moviepy-2.2.1/{big_buck_bunny.PATH.partition('.zip/')[0]}.zip")
        entry.size = len(inner.getvalue())
        outer.addfile(entry, io.BytesIO(inner.getvalue()))


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    """Replaces pip by a function that the test controls, and uses an empty cache folder."""
    behaviour: dict[str, object] = {"calls": 0, "leave": write_archive, "code": 0, "stderr": ""}

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        behaviour["calls"] += 1
        behaviour["leave"](Path(command[command.index("--dest") + 1]))
        return subprocess.CompletedProcess(command, behaviour["code"], "", behaviour["stderr"])

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(big_buck_bunny, "_SHA256", big_buck_bunny.hashlib.sha256(VIDEO).hexdigest())
    return behaviour


def test_the_video_is_downloaded_once_and_only_the_video_is_kept(pip, tmp_path: Path):
    path = big_buck_bunny.fetch_video()
    assert path == tmp_path / "cache/visual-jigsaw/big-buck-bunny.mp4"
    assert path.read_bytes() == VIDEO
    assert big_buck_bunny.fetch_video() == path
    assert pip["calls"] == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["big-buck-bunny.mp4"]


def test_a_damaged_video_is_downloaded_again(pip):
    big_buck_bunny.fetch_video().write_bytes(b"half of")
    assert big_buck_bunny.fetch_video().read_bytes() == VIDEO
    assert pip["calls"] == 2


def test_a_failed_download_is_an_error_with_the_remedy(pip):
    pip.update(leave=lambda folder: None, code=1, stderr="WARNING: retrying\nERROR: No matching distribution found")
    with pytest.raises(
        JigsawError, match=r"moviepy==2.2.1 \(58 MB\).*No matching distribution found; check the"
    ) as error:
        big_buck_bunny.fetch_video()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "leave",
    [
        lambda folder: write_archive(folder, member="resources/other.mp4"),
        lambda folder: (folder / "moviepy-2.2.1.tar.gz").write_bytes(b"no archive"),
        lambda folder: write_archive(folder, content=b"another video"),
    ],
    ids=["without-video", "no-archive", "another-video"],
)
def test_another_archive_is_refused_and_not_kept(pip, tmp_path: Path, leave):
    pip["leave"] = leave
    with pytest.raises(JigsawError, match=r"does not have|another SHA-256 than expected"):
        big_buck_bunny.fetch_video()
    assert list((tmp_path / "cache/visual-jigsaw").iterdir()) == []


def test_the_error_for_an_unwritable_cache_folder_names_it(pip, tmp_path: Path):
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(JigsawError, match=r"cache.*cannot write the video Big Buck Bunny"):
        big_buck_bunny.fetch_video()


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shots")
    big_buck_bunny.export_shots(folder)
    return folder


def test_both_splits_have_many_shots_and_share_no_part_of_the_video(shots: Path):
    numbers = {
        split: sorted(int(file.stem.removeprefix("shot-")) for file in (shots / split).iterdir())
        for split in ("train", "heldout")
    }
    assert len(numbers["train"]) > 60
    assert len(numbers["heldout"]) >= 14
    first, last = numbers["heldout"][0], numbers["heldout"][-1]
    assert all(number < first - 1 or number > last + 1 for number in numbers["train"])


def test_a_shot_has_the_frames_of_the_video(shots: Path):
    with av.open(str(min((shots / "heldout").iterdir()))) as container:
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert len(frames) >= 2 * 24 - 1
    with av.open(str(big_buck_bunny.fetch_video())) as container:
        stream = container.streams.video[0]
        container.seek(int(big_buck_bunny.HELDOUT_SECONDS[0] / stream.time_base), stream=stream)
        video_frames = [frame.to_ndarray() for frame, _ in zip(container.decode(stream), range(400), strict=False)]
    begin = next(number for number, frame in enumerate(video_frames) if (frame == frames[0]).all())
    assert all((a == b).all() for a, b in zip(frames, video_frames[begin:], strict=False))


def test_a_second_export_of_the_shots_writes_nothing(shots: Path):
    before = {file: file.stat().st_mtime_ns for file in shots.rglob("*.mp4")}
    big_buck_bunny.export_shots(shots)
    assert {file: file.stat().st_mtime_ns for file in shots.rglob("*.mp4")} == before


def test_a_shot_that_another_process_is_writing_is_not_changed(shots: Path, tmp_path: Path):
    shot = min((shots / "train").iterdir())
    for side in ("train", "heldout"):
        (tmp_path / side).mkdir()
        for file in (shots / side).iterdir():
            if file != shot:
                (tmp_path / side / file.name).hardlink_to(file)
    unfinished = tmp_path / "train" / f".{shot.name}"
    unfinished.write_bytes(b"half of it")
    big_buck_bunny.export_shots(tmp_path)
    assert unfinished.read_bytes() == b"half of it"
    assert (tmp_path / "train" / shot.name).read_bytes() == shot.read_bytes()
