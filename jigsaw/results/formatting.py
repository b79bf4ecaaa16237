"""Numbers and kinds of puzzles as text: the same in the terminal, in tables and on pages."""

from __future__ import annotations

from jigsaw.results.intervals import Estimate
from jigsaw.rewards.answers import CHOICE, ORDER


def heading(figure: str) -> str:
    """The name of a figure in tables and charts.

    >>> heading("kendall_tau")
    'kendall tau'
    """
    return figure.replace("_", " ")


def interval(estimate: Estimate, digits: int = 3, sign: str = "", form: str = "{value} [{low}, {high}]") -> str:
    """An estimate with its interval, as all text output shows it.

    >>> interval(Estimate(0.441, 0.39, 0.492)), interval(Estimate(0.1, 0.05, 0.15), 2, "+")
    ('0.441 [0.390, 0.492]', '+0.10 [+0.05, +0.15]')
    """
    parts = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return form.format(**{name: rounded(value, digits, sign) for name, value in parts.items()})


def rounded(value: float | None, digits: int, sign: str = "") -> str:
    """A value as text. Small values keep one digit, so that a chance level of 1/362880 is not printed as 0.000.

    >>> rounded(0.25, 3), rounded(1 / 362880, 3), rounded(-0.0001, 3, "+")
    ('0.250', '2.8e-06', '-1.0e-04')
    """
    if value is None:
        return ""
    plain = f"{round(value, digits) + 0.0:{sign}.{digits}f}"
    return plain if value == 0 or float(plain) != 0 or abs(value) < 1e-12 else f"{value:{sign}.1e}"


def percent(value: float) -> str:
    """A share as a percentage. Only 0 is printed as `0%`, and only 1 as `100%`.

    >>> [percent(value) for value in (0, 1 / 24, 0.615, 0.004, 1 / 362880, 0.9996, 0.997, 1)]
    ['0%', '4%', '62%', '0.4%', 'less than 0.1%', 'more than 99.9%', '99.7%', '100%']
    """
    if 0 < value < 0.0005:
        return "less than 0.1%"
    if 0.9995 <= value < 1:
        return "more than 99.9%"
    fine = 0 < value < 0.00995 or 0.995 <= value < 1
    return f"{100 * value:.1f}%" if fine else f"{int(100 * value + 0.5 + 1e-9)}%"


def kind_in_words(answer_kind: str, num_pieces: int | None) -> str:
    """A kind of answer as text: `9 pieces`, `choice of 4`, `number`; empty for orders of different lengths."""
    if answer_kind == ORDER:
        return f"{num_pieces} pieces" if num_pieces else ""
    return f"{answer_kind} of {num_pieces}" if answer_kind == CHOICE and num_pieces else answer_kind
