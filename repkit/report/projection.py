"""t-SNE of vectors, drawn once per attribute. Source: neumann2019 section 3 (figures of r and of the last layer)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from repkit.report.style import looks, panels, save

MOST_POINTS = 1500
MOST_NAMES = 30
"""Legends longer than this are left out."""
FEWEST_POINTS = 10


def choose_points(ids: Sequence[str], most: int = MOST_POINTS) -> np.ndarray:
    """Return the sorted places of at most `most` ids, the same ones on every machine."""
    if len(ids) <= most:
        return np.arange(len(ids))
    order = sorted(range(len(ids)), key=lambda place: hashlib.sha256(ids[place].encode()).digest())
    return np.array(sorted(order[:most]))


def project(values: np.ndarray) -> np.ndarray:
    """Return the t-SNE map (n, 2) of vectors (n, D): each dimension standardised, 50 principal components, seed 0.

    Perplexity is 30, or a third of the points where there are fewer than 91.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    values = np.asarray(values, dtype=np.float64)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    components = min(50, *values.shape)
    if components < values.shape[1]:
        values = PCA(components, svd_solver="full").fit_transform(values)
    if not values.any():
        # all vectors equal: there is no direction to start from
        return np.zeros((len(values), 2))
    perplexity = min(30.0, (len(values) - 1) / 3)
    start = "pca" if values.shape[1] > 1 else "random"
    return TSNE(perplexity=perplexity, init=start, random_state=0, n_jobs=1).fit_transform(values)


def draw_map(points: np.ndarray, attributes: Mapping[str, Sequence[str | None]], title: str, path: Path) -> Path | None:
    """Draw a map once per attribute that tells at least two of its points apart.

    Args:
        points: (n, 2).
        attributes: per name n values, None where unknown.
        title: of the figure.
        path: of the PNG.

    Returns:
        the path, or None when no attribute has two values.
    """
    shown = {}
    for name, values in attributes.items():
        kinds = sorted({value for value in values if value is not None})
        if set(kinds) <= {"low", "medium", "high"}:
            kinds = [kind for kind in ("low", "medium", "high") if kind in kinds]
        if len(kinds) > 1:
            shown[name] = (list(values), kinds)
    if not shown:
        return None
    # a long legend takes its room below the map, not from it
    longest = max((len(kinds) for _, kinds in shown.values() if len(kinds) <= MOST_NAMES), default=0)
    height = 3.2 + 0.13 * max(0, -(-longest // 3) - 4)
    figure, axes = panels(len(shown), columns=2 if len(shown) in (2, 4) else 3, width=2.9, height=height)
    size = float(np.clip(5000 / len(points), 8, 26))
    for panel, (name, (values, kinds)) in zip(axes, shown.items()):
        style = looks(kinds)
        unknown = np.array([value is None for value in values])
        for kind in kinds:
            here = np.array([value == kind for value in values])
            look = style[kind]
            panel.scatter(*points[here].T, s=size, lw=0.25, edgecolors="white", alpha=0.9, label=_short(kind), **look)
        if unknown.any():
            panel.scatter(*points[unknown].T, s=size * 0.6, color="#D0D0D0", lw=0, label="unknown", zorder=0)
        panel.set_title(name)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_aspect("equal", adjustable="datalim")
        panel.grid(visible=False)
        for spine in panel.spines.values():
            spine.set(visible=True, color="#D0D0D0")
        if len(kinds) <= MOST_NAMES:
            panel.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, fontsize=7, handletextpad=0.1,
                columnspacing=0.7, borderaxespad=0.2, markerscale=1.2,
            )  # fmt: skip
        else:
            panel.set_xlabel(f"{len(kinds)} values, by colour and marker", fontsize=7.5)
    figure.suptitle(title, x=0.01, ha="left")
    return save(figure, path)


def _short(name: str) -> str:
    return name.rsplit("/", 1)[-1]
