"""``repkit report``: the page of a run from its files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repkit.evaluation.results import score_run
from repkit.evaluation.run_files import RunFiles, read_run_files
from repkit.report.context import Page, headline, rows_of, stores_of
from repkit.report.corpus_figures import draw_corpora, draw_matrices
from repkit.report.figures import draw_confusions, draw_differences, draw_recalls, draw_scores
from repkit.report.maps import draw_maps
from repkit.report.page_corpora import corpora_part
from repkit.report.page_protocol import conditions_part, end_part, protocol_part, transductive_note
from repkit.report.page_results import classes_part, groups_part, other_scores_part, results_part, worth_part
from repkit.report.page_training import CHOSEN, layers_part, training_part
from repkit.report.run_names import given_settings, models_of, settings_text
from repkit.report.style import styled
from repkit.report.training import read_curves, read_figures
from repkit.report.training_figures import draw_curves, draw_figures
from repkit.runs.atomic import write_text_atomic

MOST_SETTINGS = 12
"""Settings of the command that are named at the top of the page; all stand in the command at its end."""

ObjectiveFigures = Mapping[str, Mapping[str, np.ndarray]]


def render(run_dir: str | Path, *, maps: bool = True) -> Path:
    """Score a run again and write ``report.md`` and ``figures/*.png`` into it.

    Args:
        run_dir: the run directory; nothing outside it is read.
        maps: draw the t-SNE maps too, which take most of the time.

    Returns:
        the path of report.md. Same files in, same page and figures out.

    Raises:
        DataError: a file of the run is missing or breaks its schema.
    """
    files = read_run_files(run_dir)
    results = score_run(run_dir)
    folder = files.path / "figures"
    folder.mkdir(exist_ok=True)
    objectives = read_figures(files)
    with styled():
        figures = _draw(files, results, objectives, folder)
        drawn = draw_maps(files, folder, results["probes"]) if maps else []
    kept = {path.name for path in [*figures.values(), *(path for path, _ in drawn)]}
    for stale in folder.glob("*.png"):
        if stale.name not in kept and maps:
            stale.unlink()
    page = files.path / "report.md"
    write_text_atomic(
        page, "\n\n".join(_page(Page(files, results, figures, stores_of(files)), objectives, drawn)) + "\n"
    )
    return page


def _draw(files: RunFiles, results: Mapping[str, Any], objectives: ObjectiveFigures, folder: Path) -> dict[str, Path]:
    view, checkpoint = headline(results)
    figures: dict[str, Path] = {}
    scores = rows_of(results["scores"], view, checkpoint)
    if scores:
        chance = 1 / max(1, sum(value is not None for value in scores[0]["recall"].values()))
        figures["scores"] = draw_scores(scores, chance, folder / "scores.png")
    compared = [d for d in rows_of(results["differences"], view, checkpoint) if d["difference"] is not None]
    if compared:
        names = [score["condition"] for score in scores]
        figures["differences"] = draw_differences(compared, names, folder / "differences.png")
    if len(files.corpora) > 1 and scores:
        figures["corpora"] = draw_corpora(rows_of(results["corpora"], view, checkpoint), folder / "corpora.png")
        matrices = rows_of(results["matrix"], view, checkpoint)
        if any(len(matrix["rows"]) > 1 or len(matrix["corpora"]) > 1 for matrix in matrices):
            figures["matrix"] = draw_matrices(matrices, view, folder / "matrix.png")
    for name, classes in results["views"].items():
        of_view = rows_of(results["scores"], name, checkpoint)
        if of_view:
            figures[f"recall_{name}"] = draw_recalls(of_view, classes, folder / f"recall_{name}.png")
            figures[f"confusion_{name}"] = draw_confusions(of_view, classes, folder / f"confusion_{name}.png")
    curves = read_curves(files, view)
    if curves:
        figures["curves"] = draw_curves(curves, view, folder / "curves.png")
    by_epoch = {name: of for name, of in objectives.items() if not name.startswith(CHOSEN)}
    drawn = draw_figures(by_epoch, folder / "figures.png")
    if drawn is not None:
        figures["figures"] = drawn
    return figures


def _page(page: Page, objectives: ObjectiveFigures, drawn: Sequence[tuple[Path, str]]) -> list[str]:
    files, results = page.files, page.results
    n = results["n"]
    parts = [_title(page)]
    if files.recipe.get("description"):
        parts.append(str(files.recipe["description"]))
    parts += _settings_note(files)
    parts.append(
        f"Protocol `{results['protocol_id']}`: {n['utterances']} test utterances, {n['speakers']} speakers, "
        f"{n['folds']} folds, {n['seeds']} seeds, {n['conditions']} conditions. "
        "Compare with other results only where the protocol id is the same."
    )
    if not results["complete"]:
        jobs, missing = results["n_jobs"], results["missing_jobs"]
        more = f" and {len(missing) - 20} more" if len(missing) > 20 else ""
        parts.append(
            f"> **Incomplete: {jobs['finished']} of {jobs['planned']} jobs are finished.** The scores cover those. "
            f"Missing: {', '.join(f'`{job}`' for job in missing[:20])}{more}"
        )
    parts += transductive_note(page)
    if not results["scores"]:
        return [*parts, "No job has finished yet: there is nothing to score.", *end_part(page)]
    for part in (corpora_part, results_part, worth_part, conditions_part, protocol_part, other_scores_part):
        parts += part(page)
    parts += [*classes_part(page), *groups_part(page)]
    parts += [*training_part(page, objectives), *layers_part(page, drawn)]
    return parts + end_part(page)


def _title(page: Page) -> str:
    """Return recipe, corpora, and the models where they are not what the recipe is named after."""
    recipe = page.results["recipe"] or page.files.path.name
    models = list(dict.fromkeys(models_of(page.files).values()))
    beside = f", model{'s' if len(models) > 1 else ''} {', '.join(models)}" if models not in ([], [recipe]) else ""
    return f"# {recipe} on {', '.join(page.files.corpora) or 'its corpora'}{beside}"


def _settings_note(files: RunFiles) -> list[str]:
    """Return the model of each condition and what the command has set differently from the recipe."""
    models = models_of(files)
    if not models:
        return []
    if len(set(models.values())) == 1:
        said = f"Model: `{next(iter(models.values()))}`."
    else:
        said = f"Models: {', '.join(f'{condition} `{name}`' for condition, name in models.items())}."
    given = given_settings(files)
    if given:
        said += f" Set by `--set` over the recipe: {settings_text(given, MOST_SETTINGS, mark='`')}."
    return [said]
