"""Make docs/results/dann.md: Gao et al. 2022 with each of four corpora left out, arousal and valence.

    python docs/results/dann.py --data FOLDER --work FOLDER

Steps that are done are not repeated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import common

CORPORA = ("emodb", "emovo", "ravdess", "urdu")
HERE = Path(__file__).parent
VIEWS = ("arousal", "valence")
MULTIPLE = (
    "Each of these {n} verdicts is read by itself, without adjustment for their number: where nothing differs, one of so many may "
    "still be said by chance."
)
SAYS = {
    "helps": "holds here",
    "hurts": "does not hold here, it makes it worse",
    "does not help": "does not hold here",
    "cannot tell": "cannot be told at this size",
}


def steps(data: str) -> list[common.Step]:
    """Return one run per view."""
    given = ["train-ser", "--recipe", str(HERE / "dann.toml"), *common.corpora_options(data, CORPORA)]
    return [[*given, "--set", f'labels.views=["{view}"]'] for view in VIEWS]


def domain_table(folder: Path) -> str:
    """Return how well the domain heads tell their domains at the end of training, and what the centre loss leaves."""
    wanted = ("speaker", "corpus", "language", "gender")
    rows = []
    for condition in sorted(p.name for p in (folder / "jobs").iterdir()):
        figures: dict[str, list[float]] = {}
        for file in folder.glob(f"jobs/{condition}/seed_*/*/metrics.jsonl"):
            for key, value in json.loads(file.read_text().splitlines()[-1])["figures"].items():
                figures.setdefault(key, []).append(value)
        if not figures:
            continue
        mean = {key: sum(values) / len(values) for key, values in figures.items()}
        cells = []
        for name in wanted:
            accuracy = mean.get(f"domain_adversarial.{name}_balanced_accuracy")
            chance = mean.get(f"domain_adversarial.{name}_chance")
            cells.append("-" if accuracy is None else f"{100 * accuracy:.0f} ({100 * chance:.0f})")
        rows.append([condition, *cells, f"{mean['domain_adversarial.spread']:.3f}"])
    return common.table(["condition", *wanted, "spread of z"], rows)


def warnings(folder: Path) -> str:
    """Return what the objectives warned of, with counts."""
    counts: dict[str, int] = {}
    n = 0
    for file in folder.glob("jobs/*/seed_*/*/done.json"):
        n += 1
        for text in json.loads(file.read_text())["warnings"]:
            key = f"{file.parts[-4]}: {text}"
            counts[key] = counts.get(key, 0) + 1
    if not counts:
        return f"No objective warned of a collapse in {n} trainings."
    return "\n".join(f"- {text} ({k} trainings)" for text, k in sorted(counts.items()))


def paper_table() -> str:
    """Return tables 3 and 4 of the paper."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for value in common.paper_rows("gao2022_cross"):
        rows.setdefault((str(value["view"]), value["condition"]), {})[value["corpus"]] = f"{value['uar']:.1f}"
    names = list(dict.fromkeys(name for cells in rows.values() for name in cells))
    return common.table(
        ["view, model", *names], [[f"{v}, {c}", *(cells.get(n, "-") for n in names)] for (v, c), cells in rows.items()]
    )


def contrast(folder: Path, view: str, condition: str, against: str) -> dict[str, Any]:
    """Return the difference of two conditions, neither of them the reference, in the mean over the corpora left out."""
    from repkit.evaluation.corpus_scores import compare_corpora, corpus_parts
    from repkit.evaluation.job_files import fold_corpora
    from repkit.evaluation.predictions import read_run
    from repkit.evaluation.run_files import read_run_files

    files = read_run_files(folder)
    rows, _ = read_run(files.path, files.views)
    rows = rows[
        (rows["part"] == "test") & (rows["view"] == view) & (rows["checkpoint"] == "selected") & rows["label"].notna()
    ]
    rows = rows.merge(files.utterances[["corpus", "speaker"]], left_on="id", right_index=True, validate="many_to_one")
    folds = fold_corpora(files)
    one, other = (corpus_parts(rows[rows["condition"] == name], folds) for name in (condition, against))
    n_resamples = common.read(folder, "results.json")["bootstrap"]["n_resamples"]
    _, means = compare_corpora(one, other, files.views[view], n_resamples)
    return next(mean for mean in means if mean["over"] == "held_out")


def claims(done: dict[str, Path], runs: dict[str, dict[str, Any]]) -> list[str]:
    """Return one plain sentence per claim and view, decided by the intervals; before them what limits all of these."""
    said = (
        ("domain heads help (DANN_1 over the baseline)", "dann_1", "baseline"),
        ("domain heads help (DANN_2 over the baseline)", "dann_2", "baseline"),
        ("centre loss adds to the heads (DANN_2 with centre over DANN_2)", "dann_2_centre", "dann_2"),
        ("heads and centre loss together help (DANN_2 with centre over the baseline)", "dann_2_centre", "baseline"),
        ("without the test corpus' audio (DANN_2)", "dann_2_source", "baseline"),
        ("without the test corpus' audio (DANN_1)", "dann_1_source", "baseline"),
        ("without the test corpus' audio (DANN_2 with centre)", "dann_2_centre_source", "baseline"),
    )
    lines, notes = [], []
    for view, results in runs.items():
        found = common.mean_differences(results, view, "held_out")
        for text, condition, against in said:
            d = common.find_difference(found, condition, against) or contrast(done[view], view, condition, against)
            lines.append(f"- **{view}: {text}**: {SAYS[d['verdict']]}; {common.points(d)}.")
            notes.append(d["note"])
    limits = "".join(f" {text}." for text in common.interval_notes(notes))
    return [MULTIPLE.format(n=len(lines)) + limits + "\n", *lines]


def page(data: str, work: Path, given: list[common.Step]) -> str:
    """Return the whole page."""
    folders = [common.finished(work, step) for step in given]
    done = {view: folder for view, folder in zip(VIEWS, folders) if folder is not None}
    if not done:
        raise SystemExit("no run is finished; run the script without --page-only")
    runs = {view: common.read(folder, "results.json") for view, folder in done.items()}
    parts = [(HERE / "dann_intro.md").read_text(encoding="utf-8").rstrip()]
    for view, folder in done.items():
        parts += [
            f"## {view.capitalize()}\n\nUAR in percent on the corpus left out, protocol `{runs[view]['protocol_id']}`.",
            common.corpus_table(runs[view], view, CORPORA, True),
            f"### What training hides, {view}\n\nBalanced accuracy of the domain heads in the last epoch, percent, chance in brackets: mean "
            "over folds and seeds, in training batches.",
            domain_table(folder),
            warnings(folder),
            "Linear probe of the last hidden layer on speakers never trained on, UAR in percent; `held_out` is whether speech is of the "
            "corpus left out.",
            common.probe_table(runs[view], ("held_out", "gender", view)),
        ]
    parts += [
        "## The paper's numbers\n\nTables 3 and 4, UAR, trained on IEMOCAP: other corpora, so that only directions can be compared.",
        paper_table(),
        "## Claims\n\nDifferences of the mean over the four corpora, points of UAR with the 95 % interval of a bootstrap over speakers.",
        "\n".join(claims(done, runs)),
        "## Commands",
        common.commands_block(given[: len(done)], data).replace(str(HERE), "docs/results"),
        common.how(list(done.values())),
        "This page was written by `python docs/results/dann.py --data DATA --work WORK`.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    common.main(__file__, steps, page)
