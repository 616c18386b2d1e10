"""Make docs/results/adapters.md: Gerczuk et al. 2021 on four corpora, scratch against shared base and adapters.

    python docs/results/adapters.py --data FOLDER --work FOLDER

Steps that are done are not repeated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import common

CORPORA = ("emodb", "emovo", "ravdess", "urdu")
HERE = Path(__file__).parent


def steps(data: str) -> list[common.Step]:
    """Return the one run."""
    return [["train-ser", "--recipe", str(HERE / "adapters.toml"), *common.corpora_options(data, CORPORA)]]


def differences(results: dict[str, Any]) -> str:
    """Return per corpus the difference with interval and McNemar's p."""
    tests = {
        (t["condition"], t["corpus"]): t
        for t in results["mcnemar"]
        if t["view"] == "emotion" and t["checkpoint"] == "selected"
    }
    rows = []
    for d in common.of(results["corpus_differences"], "emotion"):
        if d["condition"] != "adapters":
            continue
        test = tests[d["condition"], d["corpus"]]
        rows.append(
            [
                d["corpus"],
                common.points(d),
                f"{test['only_condition']} / {test['only_reference']}",
                "< 0.001" if test["p"] < 0.001 else f"{test['p']:.3f}",
                test["mark"] or "o",
            ]
        )
    return common.table(
        ["corpus", "adapters minus scratch, points", "right only with / only without", "McNemar p", ""], rows
    )


def paper_table(results: dict[str, Any]) -> str:
    """Return the paper's EMO-DB beside ours."""
    ours = {(r["condition"], r["corpus"]): r["uar"]["mean"] for r in common.of(results["corpora"], "emotion")}
    rows = [
        [v["corpus"], v["condition"], f"{v['uar']:.1f}", v["note"] or "-"]
        for v in common.paper_rows("gerczuk2021")
        if v["corpus"].lower() in CORPORA
    ]
    rows += [["emodb, ours", c, common.percent(ours[c, "emodb"]), "-"] for c in ("scratch", "adapters")]
    return common.table(["corpus", "condition", "test UAR", "note"], rows)


def claim(results: dict[str, Any]) -> str:
    """Return the claim of the paper and what is seen here."""
    found = [d for d in common.of(results["corpus_differences"], "emotion") if d["condition"] == "adapters"]
    better = [d["corpus"] for d in found if d["verdict"] == "helps"]
    worse = [d["corpus"] for d in found if d["verdict"] == "hurts"]
    mean = next(d for d in common.of(results["corpus_mean_differences"], "emotion") if d["condition"] == "adapters")
    verdict = {
        "helps": "holds here on average",
        "hurts": "does not hold here, sharing makes it worse on average",
        "does not help": "does not hold here on average",
        "cannot tell": "cannot be told at this size on average",
    }[mean["verdict"]]
    return (
        f"- **A shared base with adapters beats scratch** (paper: best of four variants above scratch on 20 of 26): {verdict}, "
        f"{common.points(mean, note=True)}; shown better on {', '.join(better) or 'none'}, shown worse on {', '.join(worse) or 'none'}. "
        "Its base is trained on four times the corpora and each corpus' parts for further epochs: what of this is "
        "sharing and what longer training is not separated here."
    )


def sizes(folder: Path) -> str:
    """Return the parameters of both."""
    rows = []
    for condition in ("scratch", "adapters"):
        done = next(folder.glob(f"jobs/{condition}/seed_*/*/done.json"))
        rows.append([condition, f"{json.loads(done.read_text())['parameters']:,}".replace(",", " ")])
    return common.table(["condition", "parameters of the model"], rows)


def page(data: str, work: Path, given: list[common.Step]) -> str:
    """Return the whole page."""
    folder = common.finished(work, given[0])
    if folder is None:
        raise SystemExit("the run is not finished; run the script without --page-only")
    results = common.read(folder, "results.json")
    parts = [
        (HERE / "adapters_intro.md").read_text(encoding="utf-8").rstrip(),
        f"## Test UAR\n\nPercent, protocol `{results['protocol_id']}`.",
        common.corpus_table(results, "emotion", CORPORA, False),
        "## Against scratch\n\n`+` and `-`: McNemar p < 0.05 on the same utterances, decided by the mean probability over seeds. Utterances "
        "of one speaker are not independent, so that McNemar's p is too small; the verdict in brackets takes speakers as the unit.",
        differences(results),
        "## Size\n\nScratch keeps one such model for every corpus, adapters one for all four.",
        sizes(folder),
        "## The paper's numbers",
        paper_table(results),
        "## Claims",
        claim(results),
        "## Commands",
        common.commands_block(given, data).replace(str(HERE), "docs/results"),
        common.how([folder]),
        "This page was written by `python docs/results/adapters.py --data DATA --work WORK`.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    common.main(__file__, steps, page)
