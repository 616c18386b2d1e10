"""The page's part on single corpora: UAR, differences, McNemar, what carries over, the paper's numbers."""

from __future__ import annotations

from repkit.report import corpus_tables
from repkit.report.context import Page
from repkit.report.corpus_figures import some_held_out
from repkit.report.published import published
from repkit.report.sentences import OVER_WORDS, corpora_conclusion


def corpora_part(page: Page) -> list[str]:
    """Return the results by corpus; nothing in a run of one corpus."""
    scores = page.of("corpora")
    if not page.several or not scores:
        return []
    reference = page.results["reference"]
    seeds = "mean over seeds ± their standard deviation" if page.results["n"]["seeds"] > 1 else "one seed"
    part = [
        "## Results by corpus",
        f"UAR in percent, {page.view}, {page.checkpoint_name()}: over all test utterances of a corpus, {seeds}, "
        "with the 95 % interval of a bootstrap over its speakers. *Held out*: no utterance of the corpus is in train or "
        "dev of a fold that tests it. *Chance*: one over the classes the corpus has. In means every corpus counts alike; "
        "their intervals draw speakers within corpora."
        + (f" +, −: more, fewer right answers than {reference}, McNemar, p < 0.05." if page.of("mcnemar") else ""),
        corpus_tables.corpora_table(scores, page.of("corpus_means"), page.of("mcnemar"), page.shown),
        *_few(page),
        *page.image("corpora", "UAR by corpus"),
        *_differences(page),
        *paper_part(page),
        *_matrix(page),
        *_mcnemar(page),
    ]
    return part


def _few(page: Page) -> list[str]:
    """Return what to think of the intervals where a corpus has few speakers."""
    notes = {score["corpus"]: score["interval_note"] for score in page.of("corpora") if score["interval_note"]}
    said = [f"{corpus}: {note}" for corpus, note in notes.items()]
    of_means = {OVER_WORDS[mean["over"]]: mean["interval_note"] for mean in page.of("corpus_means")}
    shown = {OVER_WORDS[over] for over in corpus_tables.shown_overs(page.of("corpus_means"))}
    said += [f"{name}: {note}" for name, note in of_means.items() if note and name in shown]
    return [f"Intervals: {'; '.join(said)}."] if said else []


def _differences(page: Page) -> list[str]:
    found, means = page.of("corpus_differences"), page.of("corpus_mean_differences")
    if not found:
        return []
    reference = page.results["reference"]
    said = [corpora_conclusion(name, found, means) for name in dict.fromkeys(row["condition"] for row in found)]
    return [
        f"### Differences from {reference} by corpus",
        "\n".join(f"- {text}" for text in said if text),
        "Points of UAR, paired on the same utterances, with the 95 % interval over speakers; p: sign flips over speakers, "
        "adjusted by Holm for all conditions and corpora of the table (means: for the conditions). The verdict reads each "
        "cell alone: *better* (*worse*) when the whole interval lies above (below) zero and the unadjusted p is below "
        "0.05, *not better* when the interval, widened for the number of speakers, ends below +1 point, *cannot tell* in all "
        "other cases and always with fewer than six speakers (of a mean, in any of its corpora, where there is no gain).",
        corpus_tables.corpus_differences_table(found, means, page.shown),
    ]


def _mcnemar(page: Page) -> list[str]:
    tests = page.of("mcnemar")
    if not tests:
        return []
    reference = page.results["reference"]
    return [
        f"### McNemar's test against {reference}",
        f"Utterances that only the condition has right : that only {reference} has right, and the exact two-sided p. The "
        "prediction of an utterance is the class of the largest mean probability over seeds, and over folds where it is "
        "tested in several. The test counts right answers, not recall, and takes utterances for independent, which those "
        "of one speaker are not: its p is too small, and no p is adjusted for the number of tests. Where it and the "
        "differences of UAR above disagree, believe the latter.",
        corpus_tables.mcnemar_table(tests, page.shown),
    ]


def _matrix(page: Page) -> list[str]:
    matrices = page.of("matrix")
    if "matrix" not in page.figures:
        return []
    folds = {row["name"]: row["folds"] for matrix in matrices for row in matrix["rows"]}
    listed = "; ".join(f"*{name}*: {_folds(names)}" for name, names in folds.items())
    return [
        "### What carries over to which corpus",
        "UAR in percent by the corpora trained on and the corpus tested."
        + (
            " A frame marks a corpus that was not held out there (its other speakers are in train or dev)."
            if some_held_out(matrices)
            else ""
        )
        + f" Trained on, and the folds: {listed}.",
        *page.image("matrix", "UAR by training corpora and test corpus"),
    ]


def _folds(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} folds, {names[0]} to {names[-1]}"


def paper_part(page: Page) -> list[str]:
    """Return the paper's numbers beside ours of the same condition and corpus."""
    paper, _ = published(page.files.recipe)
    first_view = next(iter(page.results["views"]))
    part = []
    for view in page.results["views"]:
        scores, means = page.of("corpora", view), page.of("corpus_means", view)
        paired, alone = corpus_tables.match_paper(paper, view, first_view, scores, means)
        heading = [] if len(page.results["views"]) == 1 else [f"{view}:"]
        if paired:
            part += [*heading, corpus_tables.paper_beside_table(paired, page.shown)]
        if alone:
            part += [*([] if paired else heading), corpus_tables.not_run_line(alone)]
    if not part:
        return []
    return [
        "### Beside the paper",
        "UAR in percent; ours pooled over the test utterances of the corpus. The paper's speakers, utterances and "
        "splits may be others than those of this run; a mean is over the corpora of this run.",
        *part,
    ]
