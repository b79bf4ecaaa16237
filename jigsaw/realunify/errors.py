"""Error analysis of RealUnify: error categories of each part, and a comparison of the settings.

In: the records of each part. Out: counts per task. `categories` is for one part. `diagnosis` compares each item in
three settings: direct (the model alone), step (its abilities one after the other) and oracle (strong models for both).
The paper uses it to separate a missing ability from a failure to combine abilities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jigsaw.realunify.parts import SHORT, Record

Counts = dict[str, dict[str, int]]
"""Task -> category -> items."""

CATEGORIES = {
    "declined": "the server of the editor or generator declined the request",
    "no option": "the reply names no option",
    "invalid order": "the order of the tiles is not a permutation, and the answer is wrong",
    "picture unchanged": "the editor returned the picture as it was, and the answer is wrong",
    "wrong option": "the reply names a wrong option",
    "unjudged": "the judge said neither yes nor no to at least one question",
    "all questions failed": "all questions of the judge fail",
    "some questions failed": "some questions of the judge fail",
}
"""Category of a wrong item -> meaning. An item has the first category that applies."""

DIAGNOSES = {
    "not combined": "right step by step, wrong directly: the model has the abilities but does not combine them",
    "ability": "wrong both ways, right with strong models: the model lacks an ability",
    "harmed by steps": "right directly, wrong step by step",
    "beyond the oracle": "wrong both ways and with strong models",
    "right": "right both ways",
}
"""Outcome of an item in the three settings -> meaning."""


def category(record: Record) -> str | None:
    """The category of a record; None if its answer is right."""
    if record["right"]:
        return None
    if record.get("declined"):
        return "declined"
    if "verdicts" in record:
        if record["unjudged"]:
            return "unjudged"
        return "some questions failed" if record["answered"] else "all questions failed"
    if record["letter"] is None:
        return "no option"
    if "order" in record and record["order"] is None:
        return "invalid order"
    return "picture unchanged" if record.get("unchanged") else "wrong option"


def categories(records: Sequence[Record]) -> Counts:
    """The wrong answers of a part by task and category, in the order of `CATEGORIES`."""
    return _counted([(record["task"], name) for record in records if (name := category(record))], CATEGORIES)


def diagnosis(
    kind: str, items: Mapping[str, Sequence[Mapping[str, Any]]], records: Mapping[str, Sequence[Record]]
) -> Counts:
    """The items of `GEU` or `UEG` that were answered directly, step by step and by the oracle, by task and outcome.

    `items` and `records` are by part. Items of different files are the same if their pictures and questions are.
    """
    right: list[dict[Any, bool]] = []
    tasks: dict[Any, str] = {}
    for setting in ("direct", "step", "oracle"):
        part = f"{kind}_{setting}"
        by_number = {record["at"]: record for record in records.get(part, ())}
        seen: Counter[str] = Counter()
        outcome = {}
        for item in items.get(part, ()):
            same = _identity(item)
            seen[same] += 1
            if item["at"] in by_number:
                outcome[same, seen[same]] = bool(by_number[item["at"]]["right"])
                tasks[same, seen[same]] = str(item["task_type"])
        right.append(outcome)
    direct, step, oracle = right
    shared = [key for key in direct if key in step and key in oracle]
    return _counted([(tasks[key], _outcome(direct[key], step[key], oracle[key])) for key in shared], DIAGNOSES)


def _outcome(direct: bool, step: bool, oracle: bool) -> str:
    if step:
        return "right" if direct else "not combined"
    if direct:
        return "harmed by steps"
    return "ability" if oracle else "beyond the oracle"


def _identity(item: Mapping[str, Any]) -> str:
    """A key that is equal for the same item in the direct and the stepwise file."""
    if "question_list" in item:
        asked = [(str(one["question"]), str(one["answer"]).strip().lower()) for one in item["question_list"]]
        return repr((item["task_type"], asked))
    return repr((item["task_type"], item["picture"], item["evaluation_prompt"]))


def _counted(pairs: Sequence[tuple[str, str]], order: Mapping[str, str]) -> Counts:
    counts: Counts = {}
    for task in dict.fromkeys(task for task, _ in pairs):
        of_task = Counter(name for other, name in pairs if other == task)
        counts[SHORT[task]] = {name: of_task[name] for name in order if of_task[name]}
    return counts
