"""The one look of all figures: sizes, colours safe for colour-blind readers, and how a figure becomes a file.

No global state of pyplot is touched. Colours: Okabe and Ito 2008; ordered classes take three steps of cividis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repkit.runs.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")
ORDERED = {"low": "#00224E", "medium": "#9A9A9A", "high": "#E8B800"}
GREY = "#707070"
PANEL = 2.75
"""Side of a square panel in inches."""
DPI = 150

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": "#303030",
    "ytick.color": "#303030",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.titlesize": 10.5,
    "figure.titleweight": "bold",
    "savefig.dpi": DPI,
}


@contextmanager
def styled() -> Iterator[None]:
    """Give all figures made inside the house's look."""
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches that lays itself out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(n: int, columns: int = 3, width: float = PANEL, height: float = PANEL) -> tuple[Figure, list[Axes]]:
    """Return a figure with n panels in rows of at most `columns`."""
    across = min(n, columns)
    down = math.ceil(n / columns)
    figure = new_figure(across * width + 0.3, down * height + 0.45)
    axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for empty in axes[n:]:
        empty.set_axis_off()
    return figure, axes[:n]


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG through a temporary file, without the time or versions in it, and return its path."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    return path


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return a colour and a marker for each name; colours repeat after eight with other markers.

    The names of an ordered view (low, medium, high) get ordered colours.
    """
    if set(names) <= set(ORDERED):
        return {name: {"color": ORDERED[name], "marker": MARKERS[place]} for place, name in enumerate(names)}
    n = len(COLOURS)
    return {
        name: {"color": COLOURS[place % n], "marker": MARKERS[(place // n) % len(MARKERS)]}
        for place, name in enumerate(names)
    }
