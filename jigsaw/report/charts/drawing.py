"""Charts as SVG images that matplotlib draws, once in light and once in dark colours.

In: series of steps and values. Out: a `Chart`: two SVG files, and the entries of a legend that a page writes beside
them. A page shows a chart as an image, so that nothing in it can act; it holds no name out of data. The same series
give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jigsaw.pictures import bytes_uri
from jigsaw.results.formatting import percent

WIDTH, HEIGHT = 430, 236
"""Size of a chart in points; the page scales it to its column. Text of 11 points stays legible on a phone."""

WIDE = (720, 280)
"""The same of the one chart that takes the whole width of the page."""

GREY = -1
"""Style of what is only there to be compared with."""

MOST_POINTS = 240
"""Points drawn of a line: more than this cannot be distinguished at this width and would only make the page heavy."""

SMOOTH_FROM = 24
"""Points from which a line is drawn smoothed over a faint raw one."""

MARK_STEP = 0.022
"""Distance between the marks of two lines, as a share of the horizontal axis."""

LIGHT = {"muted": "#5b6670", "rule": "#dfe3e7", "ink": "#1c2126"}
LIGHT |= {"c0": "#1c6bb0", "c1": "#c4551d", "c2": "#23805a", "c3": "#8254b5", "c4": "#8f6c00", "c5": "#b03f78"}
DARK = {"muted": "#9ca7b1", "rule": "#30373e", "ink": "#e7eaed"}
DARK |= {"c0": "#6db3f2", "c1": "#f2935f", "c2": "#5fc99b", "c3": "#c1a1ec", "c4": "#dcba5a", "c5": "#ee8dbb"}
"""The colours of the page's style sheet, by name. With more than six series they repeat with other dashes."""

_DASHES = ("", "7 2.5", "9 2.5 2 2.5")  # beside the colours, for readers who cannot distinguish those
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        label: for the legend.
        points: steps and values, by step; none if the line is only a level.
        style: number of its colour, or `GREY`.
        level: a constant to compare with (chance), drawn dotted in the same colour.
        marks: step, value, low, high: single figures with their intervals.
    """

    label: str
    points: Sequence[Point]
    style: int = 0
    level: float | None = None
    marks: Sequence[tuple[float, float, float, float]] = ()

    @property
    def colour(self) -> str:
        """The name of its colour."""
        return "muted" if self.style == GREY else f"c{self.style % 6}"


@dataclass(frozen=True)
class Entry:
    """One line of a legend: its label, the name of its colour, its dashes, and the value at its end.

    `mark` is true where a series has single figures and no line.
    """

    label: str
    colour: str
    dash: str
    last: float | None
    mark: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawn chart and what the page writes around it.

    Attributes:
        series: what is drawn.
        axis: label of the horizontal axis.
        share: values are shares, and the axis runs from 0 to 1 if they all are inside.
        percent: values are shares that are printed as percentages.
        size: in points.
        note: a sentence for below the chart.
    """

    title: str
    series: Sequence[Series]
    axis: str = "step"
    share: bool = False
    percent: bool = False
    size: tuple[int, int] = (WIDTH, HEIGHT)
    note: str = ""

    @property
    def light(self) -> str:
        """The image for a light page, as a data URI."""
        return bytes_uri(_svg(self, LIGHT), "image/svg+xml")

    @property
    def dark(self) -> str:
        """The image for a dark page, as a data URI."""
        return bytes_uri(_svg(self, DARK), "image/svg+xml")

    @property
    def small(self) -> tuple[str, str]:
        """A wide chart in the size of the others, light and dark, for narrow screens."""
        return tuple(bytes_uri(_svg(self, colours, (WIDTH, HEIGHT)), "image/svg+xml") for colours in (LIGHT, DARK))  # type: ignore[return-value]

    @property
    def file(self) -> bytes:
        """An SVG file of its own: light, on white, with title and legend."""
        return _svg(self, LIGHT, alone=True)

    @property
    def legend(self) -> list[Entry]:
        """The entries of the legend, in the order of the series."""
        return [_entry(line, at) for at, line in enumerate(self.series)]


def smoothed(points: Sequence[Point]) -> list[Point]:
    """A centred moving average over about a twelfth of the line, over half of that at its ends.

    >>> smoothed([(0, 1.0), (1, 2.0)])
    [(0, 1.0), (1, 2.0)]
    """
    reach = len(points) // 24
    windows = (points[max(0, at - reach) : at + reach + 1] for at in range(len(points)))
    means = (sum(value for _, value in window) / len(window) for window in windows)
    return [(step, mean) for (step, _), mean in zip(points, means, strict=True)]


def chart(title: str, series: Sequence[Series], **options: Any) -> Chart | None:
    """A chart of the series that have something to draw, or None if none has points or marks."""
    if not any(line.points or line.marks for line in series):
        return None
    drawn = [line for line in series if line.points or line.marks or line.level is not None]
    return Chart(title, drawn, **options)


def _svg(
    chart: Chart, colours: Mapping[str, str], size: tuple[int, int] | None = None, *, alone: bool = False
) -> bytes:
    """A chart as the text of an SVG file."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    width, height = size or chart.size
    top = 26 + 18 * len(chart.series) if alone else 0
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own matplotlibrc must not reach the page
        settings: dict[str, Any] = {"svg.hashsalt": chart.title, "svg.fonttype": "none"}
        matplotlib.rcParams.update(
            settings
            | {"font.size": 11 if width <= WIDTH else 8.6, "lines.scale_dashes": False, "text.parse_math": False}
        )
        figure = Figure(figsize=(width / 72, (height + top) / 72), dpi=72)
        FigureCanvasSVG(figure)
        # Fixed margins: charts side by side share their frames, whatever their tick labels.
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
    """The title and the legend above the axes of a file of its own."""
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
    """Text of any origin inside XML, which takes no control characters."""
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
    """Dashes as matplotlib takes them."""
    return (0, tuple(float(length) for length in dash.split())) if dash else "solid"


def _entry(line: Series, at: int) -> Entry:
    """The entry of the line that is number `at` of its chart."""
    if line.marks:
        last: float | None = line.marks[-1][1]
    elif line.points:
        last = (smoothed(line.points) if len(line.points) >= SMOOTH_FROM else line.points)[-1][1]
    else:
        return Entry(line.label, line.colour, "1.4 2.6", line.level)
    return Entry(line.label, line.colour, _DASHES[at % len(_DASHES)], last, mark=not line.points)


def _draw_line(axes: Any, line: Series, at: int, first: float, last: float, colours: Mapping[str, str]) -> None:
    """Draw the line that is number `at` of a chart whose steps run from `first` to `last`."""
    colour = colours[line.colour]
    if line.points:
        noisy = len(line.points) >= SMOOTH_FROM
        main = smoothed(line.points) if noisy else list(line.points)
        if noisy:
            axes.plot(*_columns(_thinned(line.points)), color=colour, linewidth=1, alpha=0.3)
        style = {"linestyle": _style(_DASHES[at % len(_DASHES)]), "marker": "" if noisy else "o", "markersize": 4}
        axes.plot(*_columns(_thinned(main)), color=colour, linewidth=2, **style)
    if line.level is not None:
        axes.axhline(line.level, color=colour, linewidth=1.4, linestyle=(0, (1.4, 2.6)))
    aside = (last - first) * MARK_STEP * (at + 1)
    for step, value, low, high in line.marks:
        # Beside the frame of the lines, each at its own distance: intervals over each other could not be read.
        where = step + aside if step > (first + last) / 2 else step - aside
        axes.plot([where, where], [low, high], color=colour, linewidth=1.6)
        axes.plot([where], [value], color=colour, marker="D", markersize=5.5)


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
