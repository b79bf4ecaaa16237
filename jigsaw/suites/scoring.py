"""Scoring of benchmark answers: extraction of answers, one record per row, and the figure of a benchmark.

In: a row of `loading` and the model's text. Out: a record with `right` (the paper's rule) and `flexible` (flexible
answer extraction), or boxes; and figures from 0 to 1. A group is right if all its rows are. The paper's scripts take
the first letter of the text ("Answer: B" gives A) or the whole text. Figures are comparable only by the same rule, so
`right` keeps it. `final_letter` extracts the letter that a person would read.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Box = tuple[float, float, float, float]
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_BOX = re.compile(rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]")
_WHOLE_BOX = re.compile(r"\[\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*\]")


def cleaned(text: str) -> str:
    r"""The text after the thinking, in `\boxed{}` or `<answer>` if there are any, without quotes and full stop.

    >>> cleaned("<think>A or B?</think> \\boxed{B}")
    'B'
    """
    text = text.rpartition("</think>")[2]
    for pattern in (r"<answer>(.*?)</answer>", r"\\boxed\{([^{}]*)\}"):
        matches = re.findall(pattern, text, flags=re.S)
        text = matches[-1] if matches else text
    return text.strip().strip('".').strip("'").strip()


def first_letter(text: str) -> str | None:
    """The paper's rule for letters: the first ASCII letter of the cleaned text, upper case.

    >>> first_letter("(b) the left one"), first_letter("Answer: B"), first_letter("1")
    ('B', 'A', None)
    """
    match = re.search(r"[A-Za-z]", cleaned(text))
    return match.group().upper() if match else None


def final_letter(text: str, options: str = "ABCDE") -> str | None:
    """The option that a text answers: the one after "answer is", else the only option that is a separate word.

    >>> final_letter("Based on a picture, the answer is (C)."), final_letter("b)"), final_letter("A dog, or B")
    ('C', 'B', None)
    """
    text = cleaned(text)
    kind = f"[{options}{options.lower()}]"
    if bare := re.fullmatch(rf"\(?({kind})[).:]?", text):
        return bare.group(1).upper()
    named = re.findall(rf"(?:answer|option|choice)\b[^A-Za-z0-9(]*(?:is|:)?[^A-Za-z0-9(]*\(?\b({kind})\b", text, re.I)
    if named:
        return str(named[-1]).upper()
    if lead := re.match(rf"\(({kind})\)|\(?([{options}])[).:]", text):
        return str(lead.group(1) or lead.group(2)).upper()
    separate = set(re.findall(rf"(?<![A-Za-z'])([{options}])(?![A-Za-z'])", text))
    return separate.pop() if len(separate) == 1 else None


def same_word(text: str, label: str) -> bool:
    """The paper's rule for words: the cleaned text equals the label, ignoring case."""
    return cleaned(text).lower() == label.strip().lower()


def starts_with_word(text: str, label: str) -> bool:
    """The flexible rule for words: the first word equals the label ("Yes, it does")."""
    match = re.match(r"\W*(\w+)", cleaned(text))
    return match is not None and match.group(1).lower() == label.strip().lower()


def first_box(text: str) -> Box:
    """The first list of four numbers; zeros if there is none."""
    match = _BOX.search(text)
    return tuple(float(number) for number in match.groups()) if match else (0.0, 0.0, 0.0, 0.0)  # type: ignore[return-value]


def whole_boxes(text: str) -> list[Box]:
    """All lists of four whole numbers; one list of zeros if there is none."""
    boxes = [tuple(float(number) for number in match.groups()) for match in _WHOLE_BOX.finditer(text)]
    return boxes or [(0.0, 0.0, 0.0, 0.0)]  # type: ignore[return-value]


def overlap(one: Box, other: Box, least: float = 1.0) -> float:
    """Intersection over union of two boxes `x1, y1, x2, y2`. An overlap of at most `least` pixels counts as 0.

    >>> overlap((0, 0, 10, 10), (5, 0, 15, 10))
    0.3333333333333333
    """
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    if across <= least or down <= least:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return across * down / (sum(areas) - across * down)


def record_of(item: Mapping[str, Any], text: str) -> Record:
    """The record of a text on a row. Rows with boxes have `scale`, the ratio of original to shown pixels in x and y."""
    kind, target = item["kind"], item["target"]
    shared = {"id": item["id"], "category": item["category"], "group": item["group"], "kind": kind}
    if kind == "letter":
        letter = str(target).strip().strip("()").upper()
        return shared | {"right": first_letter(text) == letter, "flexible": final_letter(text, "ABCDEFGH") == letter}
    if kind == "word":
        return shared | {"right": same_word(text, str(target)), "flexible": starts_with_word(text, str(target))}
    across, down = item["scale"]
    if kind == "box":
        box = _scaled(first_box(text), across, down)
        right = overlap(box, tuple(target)) > 0.5
        return shared | {"right": right, "flexible": right}
    boxes = [_scaled(box, across, down) for box in whole_boxes(text)]
    return shared | {"boxes": [_clipped(box, item["size"]) for box in boxes], "target": target}


def figure_of(records: Sequence[Record], rule: str = "right") -> float:
    """The figure of a benchmark, 0 to 1: the share of right rows or groups, or the mean average precision.

    `rule` is `right` or `flexible`.
    """
    if records and records[0]["kind"] == "boxes":
        return mean_precision(records)
    right = right_groups(records, rule)
    return sum(right) / len(right) if right else 0.0


def right_groups(records: Sequence[Record], rule: str = "right") -> list[bool]:
    """For each group, whether all its rows are right; a row without a group is a group of its own."""
    groups: dict[str, bool] = {}
    for record in records:
        key = record["group"] or f"row {record['id']}"
        groups[key] = groups.get(key, True) and bool(record[rule])
    return list(groups.values())


def by_category(records: Sequence[Record]) -> dict[str, float]:
    """The share of right rows of each category, if there are several."""
    by_name: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        if "right" in record:
            by_name[record["category"]].append(record["right"])
    return {name: sum(values) / len(values) for name, values in sorted(by_name.items())} if len(by_name) > 1 else {}


def mean_precision(records: Sequence[Record]) -> float:
    """OVD-Eval: COCO's box AP at IoU .50 to .95 of each subset, averaged over subsets.

    All predictions have score 1. Of the predictions that overlap a true box of their image by more than half, one is
    kept.
    """
    subsets: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        subsets[record["target"]["truth"]].append(record)
    values = [coco_precision(Path(truth), thinned(own)) for truth, own in sorted(subsets.items())]
    return sum(values) / len(values) if values else 0.0


def thinned(records: Sequence[Record]) -> list[dict[str, Any]]:
    """COCO detections of one subset: per true box one prediction that fits, and those that fit none."""
    truth = json.loads(Path(records[0]["target"]["truth"]).read_text(encoding="utf-8"))["annotations"]
    boxes: dict[int, list[Box]] = defaultdict(list)
    for annotation in truth:
        x, y, width, height = annotation["bbox"]
        boxes[annotation["image_id"]].append((x, y, x + width, y + height))
    detections = []
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
                detections.append(detection | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
    return detections


def coco_precision(truth: Path, detections: Sequence[Mapping[str, Any]]) -> float:
    """COCO's box AP of detections, by pycocotools, a dependency of lmms-eval."""
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
