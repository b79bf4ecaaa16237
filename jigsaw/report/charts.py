"""Curves as SVG that lives inside a page: matplotlib draws, the page's style sheet colours.

In: series of steps and values. Out: `Chart`: SVG text without names, colours or addresses of its own, and the entries
of a legend that the page writes. Colours are custom properties of the style sheet (`--c0`, `--ink`, ..), so that one
drawing serves light and dark; names stay out of the SVG, so that nothing from data is ever drawn unescaped. The same
series give the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from jigsaw.evaluation.tables import percent

WIDTH, HEIGHT = 430, 236
"""Of a chart in its own units; the page scales it to its column. Text of 11 units stays legible on a phone."""

WIDE = (720, 280)
"""The same of the one chart that takes the whole width of the page."""

COLOURS = 6
"""Colours that the style sheet knows as `--c0` .. `--c5`; with more series they come round, with another dash."""

GREY = -1
"""Style of what is only there to be compared with."""

MOST_POINTS = 240
"""Points drawn of a line: more than this cannot be told apart at this width and would only make the page heavy."""

SMOOTH_FROM = 24
"""Points from which a line is drawn smoothed over a faint raw one."""

MARK_STEP = 0.022
"""Distance between the marks of two lines, as a share of the horizontal axis."""

FILE_COLOURS = {
    "--ink": "#1c2126",
    "--muted": "#5b6670",
    "--rule": "#dfe3e7",
    "--c0": "#1c6bb0",
    "--c1": "#c4551d",
    "--c2": "#23805a",
    "--c3": "#8254b5",
    "--c4": "#8f6c00",
    "--c5": "#b03f78",
}
"""What the properties are in a file of its own: the page's light colours."""

_DASHES = ("", "7 2.5", "9 2.5 2 2.5")  # beside the colours, for whoever cannot tell those apart
# Stand-ins that matplotlib takes for colours and that no drawing holds by accident; each becomes a custom property.
_INK, _MUTED, _RULE = "#0102f1", "#0102f2", "#0102f3"
_SERIES = [f"#0102a{number}" for number in range(COLOURS)]
_PROPERTIES = {_INK: "--ink", _MUTED: "--muted", _RULE: "--rule"} | {
    stand_in: f"--c{number}" for number, stand_in in enumerate(_SERIES)
}

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        label: for the legend.
        points: steps and values, by step; none where the line is a level alone.
        style: number of its colour and dash, or `GREY`.
        level: a constant to compare with (chance), drawn dotted in the same colour.
        marks: step, value, low, high: single figures with their intervals.
        field: key of the log that the points are read from.
    """

    label: str
    points: Sequence[Point]
    style: int = 0
    level: float | None = None
    marks: Sequence[tuple[float, float, float, float]] = ()
    field: str = ""


@dataclass(frozen=True)
class Entry:
    """One line of a legend: what it is called, how it is drawn, where it ends, and the key of the log behind it."""

    label: str
    colour: str
    dash: str
    last: float | None
    field: str


@dataclass(frozen=True)
class Chart:
    """A drawn chart and what the page writes around it.

    Attributes:
        percent: its values are printed as percentages.
        size: in the chart's own units.
    """

    title: str
    svg: str
    legend: Sequence[Entry] = field(default=())
    note: str = ""
    percent: bool = False
    size: tuple[int, int] = (WIDTH, HEIGHT)


def smoothed(points: Sequence[Point]) -> list[Point]:
    """A centred moving average over about a twelfth of the line, over half of that at its ends.

    >>> smoothed([(0, 1.0), (1, 2.0)])
    [(0, 1.0), (1, 2.0)]
    """
    reach = len(points) // 24
    windows = (points[max(0, at - reach) : at + reach + 1] for at in range(len(points)))
    means = (sum(value for _, value in window) / len(window) for window in windows)
    return [(step, mean) for (step, _), mean in zip(points, means, strict=True)]


def draw_chart(
    title: str,
    series: Sequence[Series],
    *,
    name: str,
    axis: str = "step",
    share: bool = False,
    percentages: bool = False,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    note: str = "",
) -> Chart | None:
    """Draw a chart.

    Args:
        title: what is measured; for the page, not drawn.
        series: lines; those without points, marks and a level are left out.
        name: unique in the page, of letters, digits and `-`: ids inside the SVG start with it.
        axis: label of the horizontal axis.
        share: values are shares, and the axis runs from 0 to 1 if they all are inside.
        percentages: values are shares that are printed as percentages.
        size: width and height in the chart's own units.
        note: a sentence for below the chart.

    Returns:
        The chart, or None if there is nothing to draw.
    """
    if not any(line.points or line.marks for line in series):
        return None
    drawn = [line for line in series if line.points or line.marks or line.level is not None]
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own matplotlibrc must not reach the page
        settings = {"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 11, "lines.scale_dashes": False}
        matplotlib.rcParams.update(settings)
        width, height = size
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        # Fixed margins: charts side by side share their frames, whatever their tick labels.
        axes = figure.add_axes((44 / width, 38 / height, (width - 56) / width, (height - 48) / height))
        _style_axes(axes, axis)
        first, last = _steps(drawn)
        entries = [_draw_line(axes, line, at, first, last) for at, line in enumerate(drawn)]
        _fit(axes, drawn, share)
        if percentages:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return Chart(title, _for_page(buffer.getvalue(), title, name, size), entries, note, percentages, size)


def as_file(chart: Chart) -> str:
    """A chart as an SVG file: colours settled, title and legend drawn in, on white."""
    line = 18
    legend = []
    for at, entry in enumerate(chart.legend):
        y = 34 + at * line
        last = "" if entry.last is None else f" ({percent(entry.last) if chart.percent else format(entry.last, '.3g')})"
        legend.append(
            f'<path d="M44 {y - 4}h26" fill="none" stroke="{entry.colour}" stroke-width="2.5"'
            f' stroke-dasharray="{entry.dash or "none"}"/>'
            f'<text x="78" y="{y}" font-size="11" fill="var(--ink)">{_drawable(entry.label)}{last}</text>'
        )
    top, (width, height) = 30 + len(legend) * line, chart.size
    inner = re.sub(r"<svg[^>]*>", f'<svg y="{top}" width="{width}" height="{height}">', chart.svg, count=1)
    text = "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + height}"'
            f' viewBox="0 0 {width} {top + height}" font-family="sans-serif">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="44" y="16" font-size="13" fill="var(--ink)">{_drawable(chart.title)}</text>',
            *legend,
            inner,
            "</svg>\n",
        ]
    )
    return re.sub(r"var\((--\w+)\)", lambda found: FILE_COLOURS[found.group(1)], text)


def _drawable(text: str) -> str:
    """Text of any origin inside XML, which takes no control characters."""
    return escape("".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text))


def _style_axes(axes: Any, label: str) -> None:
    axes.set_xlabel(label, color=_MUTED)
    axes.tick_params(colors=_MUTED, length=0, pad=6)
    axes.grid(axis="y", color=_RULE, linewidth=1)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_RULE)
    axes.locator_params(axis="y", nbins=5)
    axes.locator_params(axis="x", nbins=6, integer=True)


def _draw_line(axes: Any, line: Series, at: int, first: float, last: float) -> Entry:
    """Draw the line that is number `at` of a chart whose steps run from `first` to `last`."""
    colour = _MUTED if line.style == GREY else _SERIES[line.style % COLOURS]
    dash = _DASHES[at % len(_DASHES)]
    style = (0, tuple(float(length) for length in dash.split())) if dash else "solid"
    end = None
    if line.points:
        noisy = len(line.points) >= SMOOTH_FROM
        main = smoothed(line.points) if noisy else list(line.points)
        end = main[-1][1]
        if noisy:
            axes.plot(*_columns(_thinned(line.points)), color=colour, linewidth=1, alpha=0.3)
        marker = "" if noisy else "o"
        axes.plot(*_columns(_thinned(main)), color=colour, linewidth=2, linestyle=style, marker=marker, markersize=4)
    if line.level is not None:
        axes.axhline(line.level, color=colour, linewidth=1.4, linestyle=(0, (1.4, 2.6)))
        if not line.points and not line.marks:
            dash, end = "1.4 2.6", line.level
    aside = (last - first) * MARK_STEP * (at + 1)
    for step, value, low, high in line.marks:
        # Beside the frame of the lines, each at its own distance: intervals over each other could not be read.
        where = step + aside if step > (first + last) / 2 else step - aside
        axes.plot([where, where], [low, high], color=colour, linewidth=1.6)
        axes.plot([where], [value], color=colour, marker="D", markersize=5.5)
        end = value
    return Entry(line.label, f"var({_PROPERTIES[colour]})", dash, end, line.field)


def _fit(axes: Any, series: Sequence[Series], share: bool) -> None:
    """Limits of the axes: the whole of 0 to 1 for shares, some air around anything else."""
    values = [value for line in series for _, value in line.points]
    values += [bound for line in series for mark in line.marks for bound in mark[1:]]
    values += [line.level for line in series if line.level is not None]
    low, high = min(values), max(values)
    if share and low >= 0 and high <= 1:
        axes.set_ylim(-0.02, 1.02)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    else:
        air = (high - low) * 0.06 or max(abs(high) * 0.1, 0.05)
        axes.set_ylim(low - air, high + air)
    first, last = _steps(series)
    beside = MARK_STEP * (len(series) + 0.5) if any(line.marks for line in series) else 0.02
    air = (last - first) * beside or 0.5
    axes.set_xlim(first - air, last + air)


def _steps(series: Sequence[Series]) -> tuple[float, float]:
    """First and last step of anything drawn."""
    steps = [step for line in series for step, *_ in (*line.points, *line.marks)]  # a level has none
    return min(steps), max(steps)


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Means of neighbours, so that no more than `MOST_POINTS` are left; the last point stays."""
    if len(points) <= MOST_POINTS:
        return points
    size = -(-len(points) // MOST_POINTS)
    bins = [points[start : start + size] for start in range(0, len(points), size)]
    means = [(sum(step for step, _ in bin_) / len(bin_), sum(value for _, value in bin_) / len(bin_)) for bin_ in bins]
    return [*means, points[-1]]


def _for_page(svg: str, title: str, name: str, size: tuple[int, int]) -> str:
    """Matplotlib's file as an element of an HTML page."""
    svg = svg[svg.index("<svg") :]
    # Addresses of name spaces, the licence block and a style sheet that would speak for the whole page.
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.S)
    svg = re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href=", "href=")
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.S)
    # Ids are unique in a file, not in a page of many.
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    # A tenth of a unit is finer than any screen; in tags alone, for text between them is tick labels.
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d)\d+", r"\1", tag.group()), svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for stand_in, property_ in _PROPERTIES.items():
        svg = svg.replace(stand_in, f"var({property_})")
    opening = f'<svg class="plot" role="img" aria-label="{escape(title)}" viewBox="0 0 {size[0]} {size[1]}">'
    svg = re.sub(r"<svg[^>]*>", opening, svg, count=1)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()
