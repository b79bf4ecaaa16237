r"""Converts the LaTeX of an answer to plain text: `\mathbf{2},\ \left(3\right)` becomes `2, (3)`.

In: the content of a box, or an answer with math delimiters. Out: the same answer as plain text for
`jigsaw.rewards.parse`, or None. Only LaTeX that does not change the numbers and their order is supported: spaces,
upright and bold type, groups, math delimiters, brackets, and arrows to the right. Other commands are refused, and so is
text that LaTeX prints differently: `{1}{2}` is printed as 12, so it is not the answer 1, 2.

The converter makes one pass over the tokens with a stack of open groups, so its time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKENS = re.compile(
    r"\\(?:hspace\*?|mspace)\s*+\{\s*+(?=[0.]*+[1-9])[0-9.]++\s*+(?:em|ex|pt|cm|mm|in|mu)\s*+\}"
    r"|\\[A-Za-z]++\*?|\\.|\$\$?|[\\{}~()\[\].]|\s++|[^\\{}$~()\[\].\s]++",
    re.DOTALL,
)
_MARKS = re.compile(r"[\\{}$~]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SPACES = _words(
    r"\, \: \; \> ~ \quad \qquad \enspace \enskip \thinspace \medspace \thickspace \space \nobreakspace"
) | {"\\ ", "\\\n", "\\\t"}
_NOTHING = _words(
    r"\! \negthinspace \displaystyle \textstyle \rm \bf \it \sf \tt \bfseries \itshape \rmfamily \normalfont"
)
_ARROWS = _words(r"\to \rightarrow \longrightarrow \Rightarrow \Longrightarrow \implies \mapsto \longmapsto \leadsto")
_TYPES = _words(
    r"\text \textbf \textit \textrm \textsf \texttt \textup \textmd \textnormal \emph \mbox \mathrm \mathbf \mathit "
    r"\mathsf \mathtt \mathnormal \operatorname \operatorname* \bm \boldsymbol \pmb"
)
_BRACKETS = {"(": "(", ")": ")", "[": "[", "]": "]", "\\{": "{", "\\}": "}"}
_BRACKETS |= {"\\lparen": "(", "\\rparen": ")", "\\lbrack": "[", "\\rbrack": "]"}
_BRACKETS |= {"\\lbrace": "{", "\\rbrace": "}", "\\langle": "⟨", "\\rangle": "⟩"}
_OPENING = frozenset("([{⟨")
_PAIRS = {"{": "}", "$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]", "\\left": "\\right"}
_PAIRS |= {f"\\{size}l": f"\\{size}r" for size in ("big", "Big", "bigg", "Bigg")}
_PAIRS |= {f"\\{size}": f"\\{size}" for size in ("big", "Big", "bigg", "Bigg")}
_ENDS = frozenset(_PAIRS.values())
_SIZES = frozenset(word for pair in _PAIRS.items() for word in pair if word[0] == "\\" and word[1].isalpha())
r"""Commands that are followed by a bracket; `\left.` and `\right.` print none."""


def has_math(answer: str) -> bool:
    r"""Whether an answer outside a box is marked as LaTeX, by a dollar sign, `\(` or `\[`."""
    return "$" in answer or "\\(" in answer or "\\[" in answer


def without_typesetting(answer: str) -> str | None:
    r"""The text of an answer without its LaTeX, or None if the LaTeX is not supported.

    >>> without_typesetting(r"\mathbf{2},\ \text{3},\quad 1")
    '2, 3,  1'
    >>> without_typesetting(r"\left[2 \to 3 \to 1\right]")
    '[2 → 3 → 1]'
    >>> without_typesetting(r"{1}{2}") is None, without_typesetting(r"\left[2, 1") is None
    (True, True)
    """
    if _MARKS.search(answer) is None:
        return answer
    out: list[str] = []
    awaited: list[str] = []  # closing tokens of the open groups
    tokens = iter(_TOKENS.findall(answer))
    before = dollars = ""  # the last token; the open dollar sign
    for token in tokens:
        shown = ""
        if token in _SIZES:
            bracket = _next_token(tokens)
            shown = "" if bracket == "." and token in ("\\left", "\\right") else _BRACKETS.get(bracket, "?")
            opens = token == "\\left" if not shown else shown in _OPENING
            if shown == "?" or not _step(awaited, token, opens):
                return None
        elif token in _TYPES:
            if _next_token(tokens) != "{":
                return None
            awaited.append("}")
        elif token in _PAIRS or token in _ENDS:
            opens = token in _PAIRS and token != dollars
            if (opens and dollars and token[0] == "$") or not _step(awaited, token, opens):
                return None
            if token[0] == "$":
                dollars = token if opens else ""
        elif token in _SPACES or token.startswith(("\\hspace", "\\mspace")):
            shown = " " if token in _SPACES or token[-1] == "}" else "?"
        elif token in _ARROWS:
            shown = "→"
        elif token not in _NOTHING:
            shown = _BRACKETS.get(token, token)
        if shown[:1] in ("\\", "?"):  # an unsupported command, or a length that may be zero
            return None
        if shown[:1].isdigit() and ((before == "$" and not dollars) or (out and out[-1][-1].isdigit())):
            return None  # `$2, $1` are amounts of money; `{1}{2}` is printed as one number
        if shown:
            out.append(shown)
        before = token
    return None if awaited else "".join(out)


def _next_token(tokens: Iterator[str]) -> str:
    """The next token that is not white space; empty at the end."""
    return next((token for token in tokens if not token.isspace()), "")


def _step(awaited: list[str], token: str, opens: bool) -> bool:
    """Open or close the group of a token; False if another group would have to be closed first."""
    if opens:
        if token not in _PAIRS:
            return False
        awaited.append(_PAIRS[token])
        return True
    return bool(awaited) and awaited.pop() == token
