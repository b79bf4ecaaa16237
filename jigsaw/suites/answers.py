"""Reading answers to benchmark questions: the paper's rules, and a more careful one reported beside them.

In: a model's text. Out: a letter, a word or boxes. The paper's scripts take the first letter anywhere ("Answer: B" is
then A) or the whole text; figures are comparable only under the same rule, so it stays. `final_letter` reads what a
person would.
"""

from __future__ import annotations

import re

Box = tuple[float, float, float, float]
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_BOX = re.compile(rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]")
_WHOLE_BOX = re.compile(r"\[\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*\]")


def cleaned(text: str) -> str:
    r"""What is left after the thinking, out of `\boxed{}` or `<answer>`, without quotes and a full stop.

    >>> cleaned("<think>A or B?</think> \\boxed{B}")
    'B'
    """
    text = text.rpartition("</think>")[2]
    for pattern in (r"<answer>(.*?)</answer>", r"\\boxed\{([^{}]*)\}"):
        found = re.findall(pattern, text, flags=re.S)
        text = found[-1] if found else text
    return text.strip().strip('".').strip("'").strip()


def first_letter(text: str) -> str | None:
    """The paper's rule for letters: the first ASCII letter of the cleaned text, upper case.

    >>> first_letter("(b) the left one"), first_letter("Answer: B"), first_letter("1")
    ('B', 'A', None)
    """
    found = re.search(r"[A-Za-z]", cleaned(text))
    return found.group().upper() if found else None


def final_letter(text: str, options: str = "ABCDE") -> str | None:
    """The option that a text ends up with: what follows "answer is", else the only option that stands alone.

    Args:
        text: the model's text.
        options: the letters there are.

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
    alone = set(re.findall(rf"(?<![A-Za-z'])([{options}])(?![A-Za-z'])", text))
    return alone.pop() if len(alone) == 1 else None


def same_word(text: str, label: str) -> bool:
    """The paper's rule for words: the whole cleaned text is the label, whatever its case."""
    return cleaned(text).lower() == label.strip().lower()


def starts_with_word(text: str, label: str) -> bool:
    """The more careful rule: the first word is the label ("Yes, it does")."""
    found = re.match(r"\W*(\w+)", cleaned(text))
    return found is not None and found.group(1).lower() == label.strip().lower()


def first_box(text: str) -> Box:
    """The first list of four numbers; zeros without one."""
    found = _BOX.search(text)
    return tuple(float(number) for number in found.groups()) if found else (0.0, 0.0, 0.0, 0.0)  # type: ignore[return-value]


def whole_boxes(text: str) -> list[Box]:
    """All lists of four whole numbers; one of zeros without any."""
    found = [tuple(float(number) for number in match.groups()) for match in _WHOLE_BOX.finditer(text)]
    return found or [(0.0, 0.0, 0.0, 0.0)]  # type: ignore[return-value]


def overlap(one: Box, other: Box, least: float = 1.0) -> float:
    """Intersection over union of two boxes `x1, y1, x2, y2`; an overlap of at most `least` pixels counts as none.

    >>> overlap((0, 0, 10, 10), (5, 0, 15, 10))
    0.3333333333333333
    """
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    if across <= least or down <= least:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return across * down / (sum(areas) - across * down)
