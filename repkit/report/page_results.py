"""The page's part on scores over all utterances and on what beats what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repkit.report import sentences, tables
from repkit.report.context import CHECKPOINT_NAMES, Page, Row, same_vectors
from repkit.report.corpus_tables import corpora_table, plain_name
from repkit.report.published import published


def results_part(page: Page) -> list[str]:
    """Return the scores over all test utterances, and in a run of one corpus the paper's beside them."""
    view, scores, files = page.view, page.of("scores"), page.files
    first_view = next(iter(page.results["views"]))
    numbers, unknown = published(files.recipe)
    paper = [] if page.several else [v for v in numbers if (v.get("view") or first_view) == view]
    here = {plain_name(name) for name in files.corpora}
    same = {value["condition"]: value for value in paper if plain_name(value["corpus"]) in here}
    others = [value for value in paper if plain_name(value["corpus"]) not in here]
    part = [
        "## Results over all utterances" if page.several else "## Results",
        f"UAR in percent, {view}, {page.checkpoint_name()}. *UAR mean, min, max, sd*: mean over folds for each "
        "seed, then over seeds, as in the paper. *UAR pooled*: over all test utterances at once, with the 95 % "
        "interval of a bootstrap over speakers (seeds averaged inside)."
        + (" Large corpora weigh more here than small ones." if page.several else ""),
        tables.scores_table(scores, same, page.shown),
    ]
    note = next((score["interval_note"] for score in scores if score["interval_note"]), "")
    if note:
        part.append(f"Intervals: {note}.")
    part += page.image("scores", "UAR of each condition with interval")
    part += [unknown] if unknown else []
    if others:
        part += [
            "### Beside the paper",
            f"The paper's numbers were measured on other corpora than {', '.join(files.corpora)}: other speakers, "
            "classes and folds. They stand here for orientation, not for comparison.",
            tables.paper_table(others, scores),
        ]
    return part


def worth_part(page: Page) -> list[str]:
    """Return what the differences between conditions allow to say."""
    found = page.of("differences")
    if not found:
        return []
    conditions = page.conditions
    reference = conditions.get(page.results["reference"] or "", {})
    # what is better than the reference, where it cannot be said to help: it has no vector, or the very same
    systems = [name for name, row in conditions.items() if not row["has_vector"] or same_vectors(row, reference)]
    vectors = [name for name, row in conditions.items() if row["role"] == "vector"]
    part = [f"## {_question(conditions, reference)}"]
    said = [text for name in vectors if (text := sentences.conclusion(name, found, conditions))]
    part += ["\n".join(f"- {text[0].upper()}{text[1:]}" for text in said)] if said else []
    part.append("In detail (pooled UAR, same utterances, same resampled speakers):")
    part.append("\n".join(f"- {sentences.sentence(one, conditions)}" for one in found))
    part += page.image("differences", "Differences between conditions")
    part.append(tables.differences_table(found, page.shown, systems))
    part.append(
        "*helps*, *better* (*hurts*, *worse*): the whole interval lies above (below) zero and p is below 0.05; *does not "
        "help*, *not better*: the interval, widened for the number of speakers, ends below +1 point; *cannot tell*: all else, and always with fewer than six "
        "speakers. Each row is judged alone; whoever picks the best should read p, Holm. p (speakers): permutation by sign flips over "
        "speakers; Holm: adjusted for all rows of this table; p (folds): Wilcoxon over folds, whose trainings share "
        "data. The intervals say how another draw of speakers would change the difference; seeds beyond those run are "
        "not in them."
    )
    return part


def _question(conditions: Mapping[str, Row], reference: Row) -> str:
    """Return what the differences of a run answer: it depends on what its conditions differ in."""
    others = [row for row in conditions.values() if row["role"] != "baseline"]
    same = [same_vectors(row, reference) for row in others]
    if all(same) and reference:
        changed = {key for row in conditions.values() for key in row["settings"]}
        if changed:
            return f"Which {'head is' if changed == {'model'} else 'settings are'} better than {reference['name']}?"
    if any(same) or any(row["role"] == "system" for row in others):
        return f"What is better than {reference.get('name')}?"
    return "Does the vector help?"


def other_scores_part(page: Page) -> list[str]:
    """Return the scores of the other views and of the last epoch."""
    part = []
    for view in page.results["views"]:
        for checkpoint in CHECKPOINT_NAMES:
            scores = page.of("scores", view, checkpoint)
            if not scores or (view, checkpoint) == (page.view, page.checkpoint):
                continue
            if checkpoint == "last" and _same_scores(scores, page.of("scores", view, "selected")):
                continue  # nothing was chosen among epochs
            part += [f"### {view}, {page.checkpoint_name(checkpoint)}"]
            if page.several:
                keys = ("corpora", "corpus_means", "mcnemar")
                part.append(corpora_table(*(page.of(key, view, checkpoint) for key in keys), page.shown))
            part.append(tables.scores_table(scores, {}, page.shown))
    return ["## Other views and the last epoch", *part] if part else []


def _same_scores(some: Sequence[Row], others: Sequence[Row]) -> bool:
    scored = ("condition", "uar", "uar_pooled", "wa")
    return [[row[key] for key in scored] for row in some] == [[row[key] for key in scored] for row in others]


def classes_part(page: Page) -> list[str]:
    """Return recalls and confusions of every view."""
    part = [
        "## Classes",
        "Recall in percent over all seeds. Confusion matrices: large numbers are percent of the reference class, small "
        "ones counts summed over seeds.",
    ]
    for view, classes in page.results["views"].items():
        scores = page.of("scores", view)
        if scores:
            part += [
                f"### {view}, {page.checkpoint_name()}",
                tables.recall_table(scores, classes, page.shown),
                *page.image(f"recall_{view}", f"Recall per class, {view}"),
                *page.image(f"confusion_{view}", f"Confusion matrices, {view}"),
            ]
    return part


def groups_part(page: Page) -> list[str]:
    """Return the scores of speakers and groups."""
    groups = page.of("groups")
    conditions = list(dict.fromkeys(group["condition"] for group in groups))
    details = page.files.utterances.drop_duplicates("speaker").set_index("speaker").to_dict("index")
    part = [
        "## Speakers and groups",
        f"Pooled UAR in percent, {page.view}, {page.checkpoint_name()}, over the classes a group has; the worst "
        "group of at least 10 utterances is bold.",
    ]
    # corpora have a section of their own where there are several
    wide = [group for group in groups if group["kind"] not in ("speaker", "corpus")]
    if wide:
        part.append(tables.groups_table(wide, conditions, page.shown))
    speakers = [group for group in groups if group["kind"] == "speaker"]
    return [*part, tables.speakers_table(speakers, conditions, details, page.shown)]
