"""``repkit report``: the page of a run from its files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repkit.evaluation.results import score_run
from repkit.evaluation.run_files import RunFiles, read_json_file, read_run_files
from repkit.report import tables
from repkit.report.figures import draw_confusions, draw_curves, draw_differences, draw_recalls, draw_scores
from repkit.report.maps import HIDDEN_NOTE, draw_maps
from repkit.report.style import styled
from repkit.runs.atomic import write_text_atomic

CHECKPOINT_NAMES = {"selected": "epoch selected on dev", "last": "last epoch"}


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
    with styled():
        figures = _draw(files, results, folder)
        drawn = draw_maps(files, folder) if maps else []
    kept = {path.name for path in [*figures.values(), *(path for path, _ in drawn)]}
    for stale in folder.glob("*.png"):
        if stale.name not in kept and maps:
            stale.unlink()
    page = files.path / "report.md"
    write_text_atomic(page, "\n\n".join(_page(files, results, figures, drawn)) + "\n")
    return page


def _main(results: Mapping[str, Any]) -> tuple[str, str]:
    """Return the view and checkpoint of the headline: the first ones that are scored."""
    for score in results["scores"]:
        return score["view"], score["checkpoint"]
    return next(iter(results["views"])), "selected"


def _of(rows: Sequence[Mapping[str, Any]], view: str, checkpoint: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["view"] == view and row["checkpoint"] == checkpoint]


def _draw(files: RunFiles, results: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    view, checkpoint = _main(results)
    figures: dict[str, Path] = {}
    scores = _of(results["scores"], view, checkpoint)
    if scores:
        chance = 1 / max(1, sum(value is not None for value in scores[0]["recall"].values()))
        figures["scores"] = draw_scores(scores, chance, folder / "scores.png")
    compared = [d for d in _of(results["differences"], view, checkpoint) if d["difference"] is not None]
    if compared:
        names = [score["condition"] for score in scores]
        figures["differences"] = draw_differences(compared, names, folder / "differences.png")
    for name, classes in results["views"].items():
        of_view = _of(results["scores"], name, checkpoint)
        if of_view:
            figures[f"recall_{name}"] = draw_recalls(of_view, classes, folder / f"recall_{name}.png")
            figures[f"confusion_{name}"] = draw_confusions(of_view, classes, folder / f"confusion_{name}.png")
    curves = read_curves(files, view)
    if curves:
        figures["curves"] = draw_curves(curves, view, folder / "curves.png")
    return figures


def read_curves(files: RunFiles, view: str) -> dict[str, dict[str, np.ndarray]]:
    """Return per condition ``train_loss`` and ``dev_uar`` (jobs, epochs) and ``selected`` (jobs,) of finished jobs."""
    curves = {}
    for condition in files.conditions:
        losses, scores, selected = [], [], []
        for path in sorted((files.path / "jobs" / condition).glob("seed_*/*/metrics.jsonl")):
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            if not lines or not (path.parent / "done.json").exists() or ".tmp." in path.parent.name:
                continue
            losses.append([line.get("train_loss", np.nan) for line in lines])
            scores.append([((line.get("dev") or {}).get(view) or {}).get("uar", np.nan) for line in lines])
            chosen = read_json_file(path.parent / "done.json").get("selected_epoch")
            selected += [chosen] if chosen is not None else []
        if losses:
            curves[condition] = {
                "train_loss": _padded(losses),
                "dev_uar": _padded(scores),
                "selected": np.array(selected, dtype=float),
            }
    return curves


def _padded(rows: Sequence[Sequence[float]]) -> np.ndarray:
    filled = np.full((len(rows), max(map(len, rows))), np.nan)
    for place, row in enumerate(rows):
        filled[place, : len(row)] = row
    return filled


def _page(
    files: RunFiles, results: Mapping[str, Any], figures: Mapping[str, Path], drawn: Sequence[tuple[Path, str]]
) -> list[str]:
    view, checkpoint = _main(results)
    n = results["n"]
    page = [f"# {results['recipe'] or files.path.name} on {', '.join(files.corpora) or 'its corpora'}"]
    if files.recipe.get("description"):
        page.append(str(files.recipe["description"]))
    page.append(
        f"Protocol `{results['protocol_id']}`: {n['utterances']} test utterances, {n['speakers']} speakers, "
        f"{n['folds']} folds, {n['seeds']} seeds, {n['conditions']} conditions. "
        "Compare with other results only where the protocol id is the same."
    )
    if not results["complete"]:
        jobs, missing = results["n_jobs"], results["missing_jobs"]
        more = f" and {len(missing) - 20} more" if len(missing) > 20 else ""
        page.append(
            f"> **Incomplete: {jobs['finished']} of {jobs['planned']} jobs are finished.** The scores cover those. "
            f"Missing: {', '.join(f'`{job}`' for job in missing[:20])}{more}"
        )
    if not results["scores"]:
        return [*page, "No job has finished yet: there is nothing to score.", *_end(files)]
    page += _results(files, results, figures, view, checkpoint)
    page += _worth(results, figures, view, checkpoint)
    page += _protocol(files)
    page += _other_scores(results, view, checkpoint)
    page += _classes(results, figures, checkpoint)
    page += _groups(files, results, view, checkpoint)
    if "curves" in figures:
        page += [
            "## Training",
            _image(figures["curves"], "Training loss and dev UAR by epoch"),
            "Mean over folds and seeds with the band from the 10th to the 90th percentile; the triangle marks the "
            "median of the selected epochs.",
        ]
    if drawn:
        page.append("## Embeddings and last hidden layer")
        if any(path.name.startswith("hidden_") for path, _ in drawn):
            page.append(HIDDEN_NOTE)
        for path, caption in drawn:
            page += [_image(path, caption.split(". ")[0]), caption]
    return page + _end(files)


def _results(
    files: RunFiles, results: Mapping[str, Any], figures: Mapping[str, Path], view: str, checkpoint: str
) -> list[str]:
    scores = _of(results["scores"], view, checkpoint)
    paper = list(files.recipe.get("paper") or ())
    same = {value["condition"]: value for value in paper if value["corpus"] in files.corpora}
    others = [value for value in paper if value["corpus"] not in files.corpora]
    part = [
        "## Results",
        f"UAR in percent, {view}, {CHECKPOINT_NAMES[checkpoint]}. *UAR mean, min, max, sd*: mean over folds for each "
        "seed, then over seeds, as in the paper. *UAR pooled*: over all test utterances at once, with the 95 % "
        "interval of a bootstrap over speakers (seeds averaged inside).",
        tables.scores_table(scores, same),
    ]
    note = next((score["interval_note"] for score in scores if score["interval_note"]), "")
    if note:
        part.append(f"Intervals: {note}.")
    if "scores" in figures:
        part.append(_image(figures["scores"], "UAR of each condition with interval"))
    if others:
        part += [
            "### Beside the paper",
            f"The paper's numbers were measured on other corpora than {', '.join(files.corpora)}: other speakers, "
            "classes and folds. They stand here for orientation, not for comparison.",
            tables.paper_table(others, scores),
        ]
    return part


def _worth(results: Mapping[str, Any], figures: Mapping[str, Path], view: str, checkpoint: str) -> list[str]:
    found = _of(results["differences"], view, checkpoint)
    if not found:
        return []
    part = ["## Does the vector help?"]
    vectors = [c["name"] for c in results["conditions"] if c["role"] == "vector"]
    said = [text for name in vectors if (text := tables.conclusion(name, found))]
    part += ["\n".join(f"- {text[0].upper()}{text[1:]}" for text in said)] if said else []
    part.append("In detail (pooled UAR, same utterances, same resampled speakers):")
    part.append("\n".join(f"- {tables.sentence(one)}" for one in found))
    if "differences" in figures:
        part.append(_image(figures["differences"], "Differences between conditions"))
    part.append(tables.differences_table(found))
    part.append(
        "*helps* (*hurts*): the whole interval lies above (below) zero and p is below 0.05; *does not help*: the "
        "interval ends below +1 point; *cannot tell*: all else, and always with fewer than six speakers. Each row is "
        "judged alone; whoever picks the best should read p, Holm. p (speakers): permutation by sign flips over "
        "speakers; Holm: adjusted for all rows of this table; p (folds): Wilcoxon over folds, whose trainings share "
        "data. The intervals say how another draw of speakers would change the difference; seeds beyond those run are "
        "not in them."
    )
    return part


def _protocol(files: RunFiles) -> list[str]:
    parts = files.protocol["parts"]
    rows: list[tuple[str, object]] = [("protocol id", f"`{files.protocol_id}`")]
    for name, fingerprint in sorted(parts.get("corpora", {}).items()):
        rows.append((f"corpus {name}", f"fingerprint `{str(fingerprint)[:12]}`"))
    for view, classes in parts["views"].items():
        derived = (parts.get("derived_views") or {}).get(view)
        source = f" ({_pairs(derived)}; map {parts.get('category_map')})" if isinstance(derived, Mapping) else ""
        rows.append((f"classes of {view}", ", ".join(classes) + source))
    for key, value in parts.items():
        if key in ("corpora", "views", "derived_views"):
            continue
        text = _pairs(value) if isinstance(value, Mapping) else value
        rows.append((key.replace("_", " "), f"`{str(text)[:12]}`" if key.endswith("sha256") else text))
    sizes = files.protocol["folds"]
    spans = ", ".join(
        f"{part} {min(f.get(part, 0) for f in sizes)} to {max(f.get(part, 0) for f in sizes)}"
        for part in ("train", "dev", "test")
    )
    rows.append(("folds", f"{len(sizes)}; utterances: {spans}"))
    flags = files.protocol.get("audit") or []
    listed = "\n".join(f"- {flag}" for flag in flags) if flags else "The audit of the folds has nothing to flag."
    # the second column holds sentences, so that it is set left
    facts = tables.table(["fact", "value"], rows).replace("|:--|--:|", "|:--|:--|")
    return ["## Protocol", facts, "### What the audit flags", listed]


def _pairs(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {inner}" for key, inner in value.items() if inner is not None)


def _other_scores(results: Mapping[str, Any], view: str, checkpoint: str) -> list[str]:
    part = []
    for other_view in results["views"]:
        for other in CHECKPOINT_NAMES:
            scores = _of(results["scores"], other_view, other)
            if scores and (other_view, other) != (view, checkpoint):
                part += [f"### {other_view}, {CHECKPOINT_NAMES[other]}", tables.scores_table(scores, {})]
    return ["## Other views and the last epoch", *part] if part else []


def _classes(results: Mapping[str, Any], figures: Mapping[str, Path], checkpoint: str) -> list[str]:
    part = [
        "## Classes",
        "Recall in percent over all seeds. Confusion matrices: large numbers are percent of the reference class, small "
        "ones counts summed over seeds.",
    ]
    for view, classes in results["views"].items():
        scores = _of(results["scores"], view, checkpoint)
        if scores:
            part += [
                f"### {view}, {CHECKPOINT_NAMES[checkpoint]}",
                tables.recall_table(scores, classes),
                _image(figures[f"recall_{view}"], f"Recall per class, {view}"),
                _image(figures[f"confusion_{view}"], f"Confusion matrices, {view}"),
            ]
    return part


def _groups(files: RunFiles, results: Mapping[str, Any], view: str, checkpoint: str) -> list[str]:
    groups = _of(results["groups"], view, checkpoint)
    conditions = list(dict.fromkeys(group["condition"] for group in groups))
    details = files.utterances.drop_duplicates("speaker").set_index("speaker").to_dict("index")
    part = [
        "## Speakers and groups",
        f"Pooled UAR in percent, {view}, {CHECKPOINT_NAMES[checkpoint]}, over the classes a group has; the worst group "
        "of at least 10 utterances is bold.",
    ]
    wide = [group for group in groups if group["kind"] != "speaker"]
    if wide:
        part.append(tables.groups_table(wide, conditions))
    return [*part, tables.speakers_table([g for g in groups if g["kind"] == "speaker"], conditions, details)]


def _end(files: RunFiles) -> list[str]:
    part = ["## How this was made"]
    command = files.path / "command.txt"
    if command.exists():
        part.append(f"```\n{command.read_text(encoding='utf-8').strip()}\n```")
    data = _optional(files.path / "data.json")
    for key, what in (("dropped", "not used"), ("left_out", "left out for its audio")):
        if data.get(key):
            listed = [f"{name}: {value}" for name, value in list(data[key].items())[:10]]
            more = f" and {len(data[key]) - 10} more" if len(data[key]) > 10 else ""
            part.append(f"Speech {what}: {'; '.join(listed)}{more}.")
    environment = _optional(files.path / "environment.json")
    if environment:
        flat = {key: value for key, value in environment.items() if not isinstance(value, Mapping | list)}
        packages = environment.get("packages") or {}
        part.append(f"Environment: {_pairs({**flat, **packages})}.")
    status = _optional(files.path / "status.json")
    if status.get("seconds") is not None:
        part.append(f"Time: {status['seconds'] / 60:.1f} minutes for {status.get('jobs', 'all')} jobs.")
    part.append("Made by `repkit report` from the files of this folder alone; scores in full: results.json.")
    return part


def _optional(path: Path) -> dict[str, Any]:
    return read_json_file(path) if path.exists() else {}


def _image(path: Path, text: str) -> str:
    return f"![{text}](figures/{path.name})"
