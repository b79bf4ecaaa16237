"""Completions per second of the paper's reward, compared with a plain regular-expression version.

    python benchmarks/rewards.py [--json] [--count 20000] [--seconds 3]

Both score the same completions of 2 KB on one core. Four in five are well formed; the rest have broken tags, duplicates
or no numbers, like those of a model in training. `regex_reward` is a first version that takes ten minutes to write. It
is not faster, refuses valid answers and accepts invalid ones. The two run alternately, and the best round of each
counts, because other work on the machine can only slow a round down. `ratio` is our rate divided by its rate.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

# In a script, its folder comes first in sys.path, and `import rewards` would import this file.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from jigsaw.rewards import format_order, visual_jigsaw  # noqa: E402

NUM_PIECES = 9
BYTES = 2048
WORDS = ["the", "sky", "edge", "of", "tile", "one", "matches", "grass", "below", "so", "must", "left", "roof", "then"]
_FORM = re.compile(r"^\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*$", re.DOTALL)


def regex_reward(completions: Sequence[str], answer: Sequence[Sequence[int]]) -> list[float]:
    """The plain version of the paper's reward."""
    rewards = []
    for text, truth in zip(completions, answer, strict=True):
        match = _FORM.match(text)
        if match is None or len(re.findall("<answer>", text)) != 1 or len(re.findall("<think>", text)) != 1:
            rewards.append(0.0)
            continue
        numbers = [int(number) for number in re.findall(r"\d+", match.group(2))]
        value = 0.2
        if numbers == list(truth):
            value += 1.0
        elif sorted(numbers) == list(range(1, len(truth) + 1)):
            value += 0.2 * sum(a == b for a, b in zip(numbers, truth, strict=True)) / len(truth)
        rewards.append(value)
    return rewards


def random_completions(count: int, seed: int = 0) -> tuple[list[str], list[list[int]]]:
    """Completions of 2 KB and their answers, equal for equal seeds."""
    rng = Random(seed)
    completions, answers = [], []
    for _ in range(count):
        order = rng.sample(range(1, NUM_PIECES + 1), NUM_PIECES)
        shown = rng.choice([order, rng.sample(order, NUM_PIECES), rng.sample(order, NUM_PIECES), order[::-1]])
        bare = format_order(shown)
        thinking = ""
        while len(thinking) < BYTES - len(bare):
            thinking += rng.choice(WORDS) + (".\n" if rng.random() < 0.08 else " ")
        text = format_order(shown, thinking=thinking[: BYTES - len(bare)])
        fault = rng.random()
        if fault < 0.05:
            text = text.removesuffix("</answer>")
        elif fault < 0.10:
            text = text.replace("<answer>", "<answer>1, ")
        elif fault < 0.15:
            text = text.replace("<think>", "")
        elif fault < 0.20:
            text = text.replace(", ", " and ")
        completions.append(text)
        answers.append(order)
    return completions, answers


def rate(reward: Callable[..., list[float]], completions: list[str], answers: list[list[int]]) -> float:
    """Completions per second in one round."""
    start = time.perf_counter()
    reward(completions, answers)
    return len(completions) / (time.perf_counter() - start)


def measure(count: int = 20_000, seconds: float = 3.0) -> dict[str, float]:
    """The best rates of both in rounds of `count` completions, for about `seconds` (at least three rounds)."""
    completions, answers = random_completions(count)
    ours, theirs = [0.0], [0.0]
    stop = time.perf_counter() + seconds
    while len(ours) < 4 or time.perf_counter() < stop:
        ours.append(rate(visual_jigsaw, completions, answers))
        theirs.append(rate(regex_reward, completions, answers))
    return {
        "per_second": round(max(ours)),
        "regex_per_second": round(max(theirs)),
        "ratio": round(max(ours) / max(theirs), 3),
        "completions": count,
        "bytes": BYTES,
    }


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--count", type=int, default=20_000, help="completions in a turn")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to take turns")
    args = parser.parse_args()
    result = measure(args.count, args.seconds)
    if args.json:
        print(json.dumps(result))
    else:
        print(f"visual_jigsaw  {result['per_second']:>9,} completions of 2 KB a second")
        print(f"regex version  {result['regex_per_second']:>9,}   ratio {result['ratio']:.2f}")


if __name__ == "__main__":
    main()
