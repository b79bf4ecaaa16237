"""From answers to a benchmark's figure: records per row, and what they add up to.

In: a row of `loading` and the model's text. Out: a record with `right` (the paper's rule) and `careful` (what a person
would read), or boxes; and figures from 0 to 1. Groups count as right where all their rows are; denominators are
counted, not assumed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.suites.answers import (
    Box,
    final_letter,
    first_box,
    first_letter,
    overlap,
    same_word,
    starts_with_word,
    whole_boxes,
)

Record = dict[str, Any]


def record_of(item: Mapping[str, Any], text: str) -> Record:
    """What a text is worth on a row.

    Args:
        item: a row; rows with boxes carry `scale`, original over shown pixels, x and y.
        text: what the model wrote.
    """
    kind, target = item["kind"], item["target"]
    shared = {"id": item["id"], "category": item["category"], "group": item["group"], "kind": kind}
    if kind == "letter":
        letter = str(target).strip().strip("()").upper()
        return shared | {"right": first_letter(text) == letter, "careful": final_letter(text, "ABCDEFGH") == letter}
    if kind == "word":
        return shared | {"right": same_word(text, str(target)), "careful": starts_with_word(text, str(target))}
    across, down = item["scale"]
    if kind == "box":
        found = _scaled(first_box(text), across, down)
        right = overlap(found, tuple(target)) > 0.5
        return shared | {"right": right, "careful": right}
    boxes = [_scaled(box, across, down) for box in whole_boxes(text)]
    return shared | {"boxes": [_clipped(box, item["size"]) for box in boxes], "target": target}


def figure_of(records: Sequence[Record], rule: str = "right") -> float:
    """The benchmark's figure, 0 to 1: the share of rows, of groups, or the mean average precision.

    Args:
        records: of all rows.
        rule: `right` or `careful`.
    """
    if records and records[0]["kind"] == "boxes":
        return mean_precision(records)
    groups: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        groups[record["group"] or f"row {record['id']}"].append(bool(record[rule]))
    return sum(all(group) for group in groups.values()) / len(groups) if groups else 0.0


def by_category(records: Sequence[Record]) -> dict[str, float]:
    """The share of right rows of each category, where there are several."""
    found: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        if "right" in record:
            found[record["category"]].append(record["right"])
    return {name: sum(values) / len(values) for name, values in sorted(found.items())} if len(found) > 1 else {}


def mean_precision(records: Sequence[Record], precision: Callable[..., float] | None = None) -> float:
    """OVD-Eval: COCO's box AP at IoU .50 to .95 of each subset, and the plain mean over subsets.

    All predictions have score 1. Of those of one image that overlap a true box by more than half, one is kept for it.
    """
    measure = precision or coco_precision
    subsets: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        subsets[record["target"]["truth"]].append(record)
    values = [measure(Path(truth), thinned(own)) for truth, own in sorted(subsets.items())]
    return sum(values) / len(values) if values else 0.0


def thinned(records: Sequence[Record]) -> list[dict[str, Any]]:
    """COCO detections of one subset: per true box one prediction that fits, and those that fit none."""
    truth = json.loads(Path(records[0]["target"]["truth"]).read_text(encoding="utf-8"))["annotations"]
    boxes: dict[int, list[Box]] = defaultdict(list)
    for annotation in truth:
        x, y, width, height = annotation["bbox"]
        boxes[annotation["image_id"]].append((x, y, x + width, y + height))
    found = []
    for record in records:
        target = record["target"]
        predicted = [tuple(box) for box in record["boxes"]]
        kept: set[int] = set()
        dropped: set[int] = set()
        for true in boxes[target["image_id"]]:
            fitting = [at for at, box in enumerate(predicted) if overlap(box, true, 0.0) > 0.5]
            best = next((at for at in fitting if at not in kept), None)
            if best is not None:
                kept.add(best)
            dropped |= set(fitting)
        for at, (x1, y1, x2, y2) in enumerate(predicted):
            if at in kept or at not in dropped:
                detection = {"image_id": target["image_id"], "category_id": target["category_id"], "score": 1.0}
                found.append(detection | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
    return found


def coco_precision(truth: Path, detections: Sequence[Mapping[str, Any]]) -> float:
    """COCO's box AP of detections, by pycocotools, which comes with lmms-eval."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not detections:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO(str(truth))
        run = COCOeval(gold, gold.loadRes(list(detections)), "bbox")
        run.params.imgIds = sorted({detection["image_id"] for detection in detections})
        run.evaluate()
        run.accumulate()
        run.summarize()
    return max(0.0, float(run.stats[0]))


def _scaled(box: Box, across: float, down: float) -> Box:
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def _clipped(box: Box, size: Sequence[float]) -> list[float]:
    width, height = size
    return [min(max(side, 0.0), limit) for side, limit in zip(box, (width, height, width, height), strict=True)]
