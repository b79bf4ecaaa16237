"""The suites: which benchmarks a table of the papers has, where their data are, and which figure of lmms-eval is meant.

In: the name of a suite. Out: `Benchmark`s, and what was published of them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jigsaw.errors import JigsawError


@dataclass(frozen=True)
class Benchmark:
    """One column of a table.

    Attributes:
        name: as the papers print it.
        task: the id of our own definition, or the file of one below lmms-eval's `tasks/`; several are averaged by rows.
        metric: lmms-eval's name of the figure.
        scale: what brings it to percent.
        repo: the hub's data set, for lmms-eval's definitions.
        media: a folder of unpacked videos below the data root, if they need one.
        part: which entry, where the figure is a tuple.
        note: where lmms-eval's protocol is not the paper's.
    """

    name: str
    task: str
    metric: str = "right"
    scale: float = 100.0
    repo: str = ""
    media: str = ""
    part: int | None = None
    note: str = ""

    @property
    def own(self) -> bool:
        """Whether the definition is ours."""
        return not self.repo

    @property
    def tasks(self) -> list[str]:
        """The definitions behind it."""
        return self.task.split()


_HR = "options by inference instead of the first letter; mean over cycles; unreadable answers would go to an API"
_OMNI = Benchmark("OmniSpatial", "omni_spatial/omni_spatial.yaml", "omni_spatial_score", repo="nv-njb/OmniSpatial-Test")
_DA2K = Benchmark("DA-2K", "jigsaw_da2k")
_VSI = Benchmark(
    "VSI-Bench",
    "vsibench/vsibench.yaml",
    "vsibench_overall",
    repo="nyu-visionx/VSI-Bench",
    media="vsibench",
)
_TV = (
    "action_antonym action_count action_localization action_sequence egocentric_sequence moving_direction object_count "
    "object_shuffle scene_transition unexpected_action"
)

SUITES: Mapping[str, Sequence[Benchmark]] = {
    "image": (
        Benchmark("MMVP", "jigsaw_mmvp"),
        Benchmark("MMStar-fine", "mmstar/mmstar.yaml", "fine-grained perception", repo="Lin-Chen/MMStar"),
        Benchmark(
            "MMBench-en-dev",
            "mmbench/mmbench_en_dev_static.yaml",
            "gpt_eval_score",
            1.0,
            "lmms-lab-encoder/MMBench",
            note="letters read by rule, no judge",
        ),
        Benchmark("HR-Bench-8K", "hrbench/hrbench8k.yaml", "average", repo="DreamMr/HR-Bench", note=_HR),
        Benchmark(
            "VStar", "vstar_bench/vstar_bench.yaml", "vstar_overall_acc", 1.0, repo="lmms-lab-encoder/vstar-bench"
        ),
        Benchmark(
            "MME-RealWorld-lite",
            "mme_realworld/mme_realworld_lite.yaml",
            "mme_realworld_score",
            repo="yifanzhang114/MME-RealWorld-lite-lmms-eval",
        ),
        Benchmark("LISA-Grounding", "jigsaw_lisa_grounding"),
        Benchmark("OVD-Eval", "jigsaw_ovdeval"),
        Benchmark("VSR", "jigsaw_vsr"),
        _OMNI,
        _DA2K,
        Benchmark("Winoground-group", "jigsaw_winoground"),
        Benchmark("SugarCrepe++", "jigsaw_sugarcrepe_pp"),
    ),
    "video": (
        Benchmark("AoTBench", "jigsaw_aotbench"),
        Benchmark(
            "Vinoground-group",
            "vinoground/vinoground.yaml",
            "vinoground_score",
            1.0,
            "HanSolo9682/Vinoground",
            "vinoground",
            part=2,
        ),
        Benchmark(
            "TOMATO",
            "tomato/tomato.yaml",
            "tomato_score",
            repo="lmms-eval/TOMATO",
            media="TOMATO",
            note="another prompt; an answer that cannot be read counts as A",
        ),
        Benchmark("FAVOR-Bench", "jigsaw_favor"),
        Benchmark("TUNA-Bench", "jigsaw_tuna"),
        Benchmark(
            "VideoMME-wo-subs",
            "videomme/videomme.yaml",
            "videomme_perception_score",
            1.0,
            "lmms-eval/Video-MME",
            "videomme",
        ),
        Benchmark(
            "TempCompass-mc",
            "tempcompass/tempcompass_mc.yaml",
            "avg_accuracy",
            1.0,
            "lmms-eval/TempCompass",
            "tempcompass",
            note="answers that match no option would go to an API",
        ),
        Benchmark(
            "TVBench",
            " ".join(f"tvbench/tvbench_{name}.yaml" for name in _TV.split()),
            "tvbench_acc",
            repo="FunAILab/TVBench",
            media="tvbench",
        ),
        Benchmark(
            "MotionBench-val",
            "motionbench/motionbench_full.yaml",
            "motionbench_acc",
            repo="zai-org/MotionBench",
            media="motionbench/videos",
        ),
        Benchmark("LVBench", "lvbench/lvbench.yaml", "lvbench_score", repo="lmms-eval/LVBench", media="lvbench"),
        _VSI,
        Benchmark(
            "Video-TT-mcq",
            "video-tt/videott_single_mc.yaml",
            "videott_perception_score",
            1.0,
            "lmms-eval/video-tt",
            "video-tt",
        ),
        Benchmark("CVBench", "jigsaw_cvbench"),
    ),
    "depth": (
        Benchmark(
            "SAT-Real",
            "sat/sat.yaml",
            "exact_match",
            repo="nv-njb/SAT",
            note="adds a hint about the camera; exact match",
        ),
        Benchmark("3DSRBench", "3dsrbench/3dsrbench.yaml", "vanilla_accuracy", repo="oscarqjh/3DSRBench_lmmseval"),
        Benchmark(
            "ViewSpatial", "viewspatial/viewspatial.yaml", "overall_accuracy", repo="oscarqjh/ViewSpatial_lmmseval"
        ),
        Benchmark("All-Angles", "jigsaw_all_angles"),
        _OMNI,
        _VSI,
        Benchmark(
            "SPARBench-tiny",
            "sparbench/sparbench_tiny.yaml",
            "sparbench_score",
            1.0,
            repo="jasonzhango/SPAR-Bench-Tiny",
        ),
        _DA2K,
    ),
    "neo": (
        Benchmark("AI2D", "ai2d/ai2d.yaml", "exact_match", repo="lmms-lab-encoder/ai2d"),
        Benchmark("DocVQA", "docvqa/docvqa_val.yaml", "anls", repo="lmms-lab-encoder/DocVQA"),
        Benchmark("ChartQA", "chartqa/chartqa.yaml", "relaxed_overall", repo="lmms-lab-encoder/ChartQA"),
        Benchmark("InfoVQA", "infovqa/infovqa_val.yaml", "anls", repo="lmms-lab-encoder/DocVQA"),
        Benchmark("TextVQA", "textvqa/textvqa_val.yaml", "exact_match", repo="lmms-lab-encoder/textvqa"),
        Benchmark("OCRBench", "ocrbench/ocrbench.yaml", "ocrbench_accuracy", repo="echo840/OCRBench"),
        Benchmark("MMMU", "mmmu/mmmu_val.yaml", "mmmu_acc", repo="lmms-lab-encoder/MMMU"),
        Benchmark(
            "MMBench", "mmbench/mmbench_en_dev_static.yaml", "gpt_eval_score", 1.0, repo="lmms-lab-encoder/MMBench"
        ),
        Benchmark("MMStar", "mmstar/mmstar.yaml", "average", repo="Lin-Chen/MMStar"),
        Benchmark("SEED-Image", "seedbench/seedbench.yaml", "seed_image", repo="lmms-lab-encoder/SEED-Bench"),
        Benchmark("POPE", "pope/pope.yaml", "pope_accuracy", repo="lmms-lab-encoder/POPE"),
    ),
}

FRAMES = (16, 32, 64)
"""Most frames of a clip in the paper's video table; other suites take 32."""

PUBLISHED: Mapping[str, Sequence[str]] = {
    "image": ("visual-jigsaw-image",),
    "video": ("visual-jigsaw-video",),
    "depth": ("visual-jigsaw-3d",),
    "neo": ("neo-2B", "neo-8B"),
}
"""Suite -> tables of `published.csv`."""


def suite_of(name: str) -> Sequence[Benchmark]:
    """The benchmarks of a suite.

    Raises:
        JigsawError: there is no such suite.
    """
    if name not in SUITES:
        raise JigsawError(f"--suite: {name!r} is none of {', '.join([*SUITES, 'realunify'])}")
    return SUITES[name]


@dataclass(frozen=True)
class Published:
    """A figure that somebody printed, in percent."""

    table: str
    model: str
    frames: str
    benchmark: str
    score: float


PUBLISHED_FILE = Path(__file__).with_name("published.csv")


def published(tables: Sequence[str]) -> list[Published]:
    """The figures of the papers' tables."""
    with PUBLISHED_FILE.open(encoding="utf-8", newline="") as file:
        rows = [Published(**row | {"score": float(row["score"])}) for row in csv.DictReader(file)]  # type: ignore[arg-type]
    return [row for row in rows if row.table in tables]
