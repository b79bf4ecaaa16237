"""Drawing of charts: SVG images by matplotlib, in light and in dark colours.

In: series of steps and values. Out: a `Chart` with two SVG images, and the entries of the legend for the page.
A page shows charts as images, so that they cannot run code, and they contain no names from data. The same series give
the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jigsaw.pictures import bytes_uri
from jigsaw.results.formatting import percent
from jigsaw.results.intervals import Estimate

WIDTH, HEIGHT = 430, 236
"""Size of a chart in points. The page scales it to its column; text of 11 points is legible on a phone."""

WIDE = (720, 280)
"""Size of the chart with the full width of the page."""

GREY = -1
"""Style of a reference line."""

MOST_POINTS = 240
"""Maximum number of points of a line. More cannot be distinguished at this width and make the page larger."""

SMOOTH_FROM = 24
"""Minimum number of points for a smoothed line over a faint raw line."""

MARK_STEP = 0.022
"""Distance between the marks of two lines, as a share of the horizontal axis."""

LIGHT = {"muted": "#5b6670", "rule": "#dfe3e7", "ink": "#1c2126"}
LIGHT |= {"c0": "#1c6bb0", "c1": "#c4551d", "c2": "#23805a", "c3": "#8254b5", "c4": "#8f6c00", "c5": "#b03f78"}
DARK = {"muted": "#9ca7b1", "rule": "#30373e", "ink": "#e7eaed"}
DARK |= {"c0": "#6db3f2", "c1": "#f2935f", "c2": "#5fc99b", "c3": "#c1a1ec", "c4": "#dcba5a", "c5": "#ee8dbb"}
"""The colours of the page's style sheet, by name. With more than six series they repeat with other dashes."""

_DASHES = ("", "7 2.5", "9 2.5 2 2.5")  # in addition to colours, for readers who cannot distinguish them
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        label: for the legend.
        points: steps and values, ordered by step; empty if there is only a level.
        style: number of its colour, or `GREY`.
        level: a constant to compare with (chance), drawn as a dotted line of the same colour.
        marks: single figures with their intervals, each with its step.
    """

    label: str
    points: Sequence[Point]
    style: int = 0
    level: float | None = None
    marks: Sequence[tuple[float, Estimate]] = ()

    @property
    def colour(self) -> str:
        """The name of its colour."""
        return "muted" if self.style == GREY else f"c{self.style % 6}"


@dataclass(frozen=True)
class Entry:
    """One entry of a legend: label, name of the colour, dashes, and the last value.

    `mark` is true if the series has single figures and no line.
    """

    label: str
    colour: str
    dash: str
    last: float | None
    mark: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart with its title, legend and note.

    Attributes:
        series: the lines.
        axis: label of the horizontal axis.
        share: values are shares; the axis is from 0 to 1 if all of them are.
        percent: values are printed as percentages.
        size: in points.
        note: a sentence below the chart.
    """

    title: str
    series: Sequence[Series]
    axis: str = "step"
    share: bool = False
    percent: bool = False
    size: tuple[int, int] = (WIDTH, HEIGHT)
    note: str = ""

    def image(self, *, dark: bool = False, small: bool = False) -> str:
        """The image as a data URI. A `small` one has the normal size, for narrow screens."""
        svg = _svg(self, DARK if dark else LIGHT, (WIDTH, HEIGHT) if small else self.size)
        return bytes_uri(svg, "image/svg+xml")

    @property
    def file(self) -> bytes:
        """The content of an SVG file: light, on white, with title and legend."""
        return _svg(self, LIGHT, self.size, alone=True)

    @property
    def legend(self) -> list[Entry]:
        """The entries of the legend, in the order of the series."""
        return [_entry(line, at) for at, line in enumerate(self.series)]


def smoothed(points: Sequence[Point]) -> list[Point]:
    """A centred moving average over about a twelfth of the line; over half of that at the ends.

    >>> smoothed([(0, 1.0), (1, 2.0)])
    [(0, 1.0), (1, 2.0)]
    """
    reach = len(points) // 24
    windows = (points[max(0, at - reach) : at + reach + 1] for at in range(len(points)))
    means = (sum(value for _, value in window) / len(window) for window in windows)
    return [(step, mean) for (step, _), mean in zip(points, means, strict=True)]


def chart(title: str, series: Sequence[Series], **options: Any) -> Chart | None:
    """A chart of the series with data, or None if no series has points or marks."""
    if not any(line.points or line.marks for line in series):
        return None
    drawn = [line for line in series if line.points or line.marks or line.level is not None]
    return Chart(title, drawn, **options)


def _svg(chart: Chart, colours: Mapping[str, str], size: tuple[int, int], *, alone: bool = False) -> bytes:
    """A chart as the content of an SVG file."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    width, height = size
    top = 26 + 18 * len(chart.series) if alone else 0
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the user's matplotlibrc must not change the page
        settings: dict[str, Any] = {"svg.hashsalt": chart.title, "svg.fonttype": "none"}
        matplotlib.rcParams.update(
            settings
            | {"font.size": 11 if width <= WIDTH else 8.6, "lines.scale_dashes": False, "text.parse_math": False}
        )
        figure = Figure(figsize=(width / 72, (height + top) / 72), dpi=72)
        FigureCanvasSVG(figure)
        # Fixed margins align neighbouring charts, whatever their tick labels are.
        box = (44 / width, 38 / (height + top), (width - 56) / width, (height - 48) / (height + top))
        axes = figure.add_axes(box)
        _style_axes(axes, chart.axis, colours)
        first, last = _steps(chart.series)
        for at, line in enumerate(chart.series):
            _draw_line(axes, line, at, first, last, colours)
        _fit(axes, chart.series, chart.share)
        if chart.percent:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        if alone:
            _write_legend(figure, chart, colours)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=not alone, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _write_legend(figure: Any, chart: Chart, colours: Mapping[str, str]) -> None:
    """Draw the title and the legend above the axes of a file."""
    from matplotlib.lines import Line2D

    figure.text(0.01, 0.99, _drawable(chart.title), color=colours["ink"], va="top", fontsize=13)
    handles, labels = [], []
    for entry in chart.legend:
        last = "" if entry.last is None else f" ({percent(entry.last) if chart.percent else format(entry.last, '.3g')})"
        style = {"marker": "D", "linestyle": ""} if entry.mark else {"linestyle": _style(entry.dash)}
        handles.append(Line2D([], [], color=colours[entry.colour], linewidth=2.5, **style))
        labels.append(_drawable(entry.label) + last)
    place = {"loc": "upper left", "bbox_to_anchor": (0, 1 - 22 / (figure.get_figheight() * 72))}
    figure.legend(handles, labels, **place, frameon=False, labelcolor=colours["ink"], fontsize=11, borderpad=0)


def _drawable(text: str) -> str:
    """Text without control characters, which XML does not allow."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _style_axes(axes: Any, label: str, colours: Mapping[str, str]) -> None:
    axes.set_xlabel(label, color=colours["muted"])
    axes.tick_params(colors=colours["muted"], length=0, pad=6)
    axes.grid(axis="y", color=colours["rule"], linewidth=1)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(colours["rule"])
    axes.locator_params(axis="y", nbins=5)
    axes.locator_params(axis="x", nbins=6, integer=True)


def _style(dash: str) -> Any:
    """Dashes in the form of matplotlib."""
    return (0, tuple(float(length) for length in dash.split())) if dash else "solid"


def _entry(line: Series, at: int) -> Entry:
    """The legend entry of line number `at` of a chart."""
    if line.marks:
        last: float | None = line.marks[-1][1].value
    elif line.points:
        last = (smoothed(line.points) if len(line.points) >= SMOOTH_FROM else line.points)[-1][1]
    else:
        return Entry(line.label, line.colour, "1.4 2.6", line.level)
    return Entry(line.label, line.colour, _DASHES[at % len(_DASHES)], last, mark=not line.points)


def _draw_line(axes: Any, line: Series, at: int, first: float, last: float, colours: Mapping[str, str]) -> None:
    """Draw line number `at` of a chart with steps from `first` to `last`."""
    colour = colours[line.colour]
    if line.points:
        noisy = len(line.points) >= SMOOTH_FROM
        main = smoothed(line.points) if noisy else list(line.points)
        if noisy:
            axes.plot(*zip(*_thinned(line.points), strict=True), color=colour, linewidth=1, alpha=0.3)
        style = {"linestyle": _style(_DASHES[at % len(_DASHES)]), "marker": "" if noisy else "o", "markersize": 4}
        axes.plot(*zip(*_thinned(main), strict=True), color=colour, linewidth=2, **style)
    if line.level is not None:
        axes.axhline(line.level, color=colour, linewidth=1.4, linestyle=(0, (1.4, 2.6)))
    offset = (last - first) * MARK_STEP * (at + 1)
    for step, figure in line.marks:
        # Each series has its own distance from the lines, so that intervals do not cover each other.
        where = step + offset if step > (first + last) / 2 else step - offset
        axes.plot([where, where], [figure.low, figure.high], color=colour, linewidth=1.6)
        axes.plot([where], [figure.value], color=colour, marker="D", markersize=5.5)


def _fit(axes: Any, series: Sequence[Series], share: bool) -> None:
    """Set the limits of the axes: 0 to 1 for shares, otherwise the range of the values with a margin."""
    values = [value for line in series for _, value in line.points]
    values += [bound for line in series for _, one in line.marks for bound in (one.value, one.low, one.high)]
    values += [line.level for line in series if line.level is not None]
    low, high = min(values), max(values)
    if share and low >= 0 and high <= 1:
        axes.set_ylim(-0.02, 1.02)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    else:
        margin = (high - low) * 0.06 or max(abs(high) * 0.1, 0.05)
        axes.set_ylim(low - margin, high + margin)
    first, last = _steps(series)
    share_of_marks = MARK_STEP * (len(series) + 0.5) if any(line.marks for line in series) else 0.02
    margin = (last - first) * share_of_marks or 0.5
    axes.set_xlim(first - margin, last + margin)


def _steps(series: Sequence[Series]) -> tuple[float, float]:
    """The first and the last step of all points and marks."""
    steps = [step for line in series for step, *_ in (*line.points, *line.marks)]  # a level has none
    return min(steps), max(steps)


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Means of neighbouring points, at most `MOST_POINTS` of them, and the last point."""
    if len(points) <= MOST_POINTS:
        return points
    size = -(-len(points) // MOST_POINTS)
    bins = [points[start : start + size] for start in range(0, len(points), size)]
    means = [(sum(step for step, _ in bin_) / len(bin_), sum(value for _, value in bin_) / len(bin_)) for bin_ in bins]
    return [*means, points[-1]]
