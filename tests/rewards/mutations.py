"""Random mutations of completions, for the fuzz tests."""

import re

SNIPPETS = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "\\boxed{",
    "}",
    "{",
    "\\text{",
    "Tile ",
    "clip ",
    " -> ",
    "→",
]
SNIPPETS += [
    ", ",
    ",",
    ";",
    " ",
    "\n",
    ".",
    "-",
    "+",
    "0",
    "[",
    "]",
    "(",
    ")",
    "、",
    "，",
    "３",
    "²",
    "and",
    "\u200b",
    "\x00",
]
LATEX = [
    "\\,",
    "\\ ",
    "~",
    "$",
    "\\(",
    "\\)",
    "\\[",
    "\\mathbf{",
    "\\textbf{",
    "\\left",
    "\\right",
    "\\bigl",
    "\\to ",
    "{,}",
]
LATEX += ["\\!", "\\quad ", "\\leftarrow ", "\\{", "\\}", "\\\\", "｛", "～", "＼"]
SNIPPETS += [*LATEX, *"123456789", "<", ">", "/", "\\", "99", "1.0", "1, 2, 3", "\ud800", "\u2028", "😀"]


LATEX_ORDERS = [
    lambda numbers: ",\\ ".join(numbers),
    lambda numbers: r"\,".join(numbers),
    lambda numbers: "{,}".join(numbers),
    lambda numbers: r" \to ".join(numbers),
    lambda numbers: rf"\left[{', '.join(numbers)}\right]",
    lambda numbers: rf"\mathbf{{{', '.join(numbers)}}}",
    lambda numbers: ", ".join(rf"\text{{{number}}}" for number in numbers),
    lambda numbers: f"${', '.join(numbers)}$",
]
"""Ways to write an order in LaTeX."""
INVISIBLE = re.compile(r"\\(?:!|mathbf\{|textbf\{|text\{|left|right|bigl)|[{}$]")
"""Markup that LaTeX does not print. Two numbers with only this between them are printed as one."""


def mutate(text, rng):
    """The text after one to four random deletions, copies, moves, swaps or insertions."""
    for _ in range(rng.randint(1, 4)):
        a, b = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        kind = rng.randrange(7)
        if kind == 0:  # delete up to nine characters
            text = text[:a] + text[min(b, a + rng.randint(1, 9)) :]
        elif kind == 1:  # duplicate a span
            text = text[:b] + text[a:b] + text[b:]
        elif kind == 2:
            text = text[:a] + rng.choice(SNIPPETS) + text[a:]
        elif kind == 3:
            text = text[:a] + rng.choice(SNIPPETS) + text[a + 1 :]
        elif kind == 4:  # swap two characters
            if b - a > 1 and b < len(text):
                text = text[:a] + text[b] + text[a + 1 : b] + text[a] + text[b + 1 :]
        elif kind == 5:  # swap two numbers
            numbers = list(re.finditer("[1-9]", text))
            if len(numbers) > 1:
                x, y = sorted(rng.sample(numbers, 2), key=lambda m: m.start())
                text = text[: x.start()] + y[0] + text[x.end() : y.start()] + x[0] + text[y.end() :]
        else:
            text = text[a:b] + text[:a] + text[b:]
    return text
