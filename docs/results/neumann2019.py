"""Make docs/results/neumann2019.md: Neumann & Vu 2019 on four small corpora, with the controls beside every claim.

    python docs/results/neumann2019.py --data FOLDER --work FOLDER

FOLDER of the data holds emodb, emovo, ravdess, urdu and librispeech, each with a metadata.csv. Every step is one repkit
command, printed before it runs; a step that is done is not done again, so the script can be stopped and started.
"""

from __future__ import annotations

import json
from pathlib import Path

import common

CORPORA = ("emodb", "emovo", "ravdess", "urdu")
# nearly equal numbers of updates, so that the encoders differ in what they heard and not in how long they learnt
PRETRAIN = {
    "ae-librispeech": ("autoencoder", "librispeech", 16),
    "ae-librispeech-blind": ("autoencoder_blind", "librispeech", 16),
    "ae-emodb": ("autoencoder", "emodb", 28),
    "ae-emovo": ("autoencoder", "emovo", 25),
    "ae-ravdess": ("autoencoder", "ravdess", 10),
    "ae-urdu": ("autoencoder", "urdu", 37),
}
SER_EPOCHS = 20


def commands(data: str) -> list[list[str]]:
    """Return every repkit command in order."""
    steps = [
        [
            "pretrain-ae",
            "--recipe",
            recipe,
            "--corpus",
            f"{corpus}={data}/{corpus}",
            "--out",
            f"runs/{name}",
            "--set",
            f"training.epochs={epochs}",
        ]
        for name, (recipe, corpus, epochs) in PRETRAIN.items()
    ]
    for corpus in CORPORA:
        encoders = [f"runs/ae-{corpus}", "runs/ae-librispeech", "runs/ae-librispeech-blind"]
        for encoder in [*encoders, "untrained:runs/ae-librispeech", "statistics:runs/ae-librispeech"]:
            steps.append(
                ["embed", "--encoder", encoder, "--corpus", f"{corpus}={data}/{corpus}", "--out", "embeddings"]
            )
    for corpus in CORPORA:
        conditions = {
            "C": f"ae-{corpus}",
            "Li": "ae-librispeech",
            "Li-blind": "ae-librispeech-blind",
            "untrained": "untrained-ae-librispeech",
            "statistics": "statistics-ae-librispeech",
        }
        given = [
            text for name, folder in conditions.items() for text in ("--embeddings", f"{name}=embeddings/{folder}")
        ]
        steps.append(
            [
                "train-ser",
                "--recipe",
                "neumann2019",
                "--corpus",
                f"{corpus}={data}/{corpus}",
                *given,
                "--set",
                f"training.epochs={SER_EPOCHS}",
            ]
        )
    return steps


def stage_one_table(work: Path) -> list[str]:
    """Return the rows on how the autoencoders learnt and whether their decoder uses the vector."""
    rows = [
        "| run | heard | updates | minutes | dev RMSE, own vector | another's | zeros | copying the previous frame | another's / own |",
        "|:--|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, (_, corpus, _) in PRETRAIN.items():
        found = json.loads((work / "runs" / name / "results.json").read_text())
        use = found["vector_use"]
        hours = found["provenance"]["corpora"][0]["hours"]
        rows.append(
            f"| {name} | {corpus}, {hours:.2f} h | {found['updates']} | {found['training_seconds'] / 60:.0f} | {use['own']:.4f} | {use['another']:.4f} "
            f"| {use['zeros']:.4f} | {use['copy_previous']:.4f} | {use['another_over_own']:.2f} |"
        )
    return rows


def paper_table(runs: dict[str, Path]) -> list[str]:
    """Return the published UAR beside ours, of the table that the recipe names."""
    published = common.paper_rows("neumann2019")
    ours: dict[str, list[str]] = {}
    for folder in runs.values():
        for score in json.loads((folder / "results.json").read_text())["scores"]:
            if score["view"] == "emotion" and score["checkpoint"] == "selected":
                ours.setdefault(score["condition"], []).append(f"{100 * score['uar']['mean']:.1f}")
    rows = [
        f"| condition | paper, {published[0]['corpus']}: UAR (min to max) | "
        + " | ".join(f"ours, {c}" for c in runs)
        + " |"
    ]
    rows.append("|:--|" + "--:|" * (1 + len(runs)))
    for value in published:
        mine = ours.get(value["condition"], ["-"] * len(runs))
        rows.append(
            f"| {value['condition']} | {value['uar']:.1f} ({value['minimum']:.1f} to {value['maximum']:.1f}) | "
            + " | ".join(mine)
            + " |"
        )
    return [
        *rows,
        "",
        "Other corpora, other speakers, other sizes: the columns show what was published, they are no reproduction of it.",
    ]


def verdicts(runs: dict[str, Path]) -> list[str]:
    """Return one plain sentence per corpus and vector: against the baseline and against both controls."""
    lines = []
    for corpus, folder in runs.items():
        results = json.loads((folder / "results.json").read_text())
        found = [d for d in results["differences"] if d["view"] == "emotion" and d["checkpoint"] == "selected"]
        for condition in ("C", "Li", "Li-blind"):
            parts = []
            for other in ("BL", "untrained", "statistics"):
                d = next(d for d in found if d["condition"] == condition and d["against"] == other)
                parts.append(
                    f"against {other} {100 * d['difference']:+.1f} [{100 * d['low']:+.1f}, {100 * d['high']:+.1f}] ({d['verdict']})"
                )
            lines.append(f"- **{corpus}, {condition}**: " + "; ".join(parts) + ".")
    return lines


def summary(runs: dict[str, Path]) -> list[str]:
    """Return how often each vector was shown to help or hurt, counted over the corpora."""
    counts: dict[tuple[str, str], list[str]] = {}
    for folder in runs.values():
        for d in json.loads((folder / "results.json").read_text())["differences"]:
            if d["view"] == "emotion" and d["checkpoint"] == "selected":
                counts.setdefault((d["condition"], d["against"]), []).append(d["verdict"])
    rows = ["| vector | against | helps | hurts | does not help | cannot tell |", "|:--|:--|--:|--:|--:|--:|"]
    for (condition, against), found in counts.items():
        numbers = [found.count(verdict) for verdict in ("helps", "hurts", "does not help", "cannot tell")]
        rows.append(f"| {condition} | {against} | " + " | ".join(str(n) for n in numbers) + " |")
    beaten = []
    for c in ("C", "Li", "Li-blind"):
        both = zip(runs, counts[c, "untrained"], counts[c, "statistics"])  # every run has both controls
        beaten += [f"{c} on {corpus}" for corpus, one, other in both if one == other == "helps"]
    closing = (
        f"Shown to help more than both controls: {', '.join(beaten)}."
        if beaten
        else "No trained vector is shown to help more than both of its controls on any corpus: at this size, nothing on this page "
        "says that training the autoencoder is worth it."
    )
    return [*rows, "", closing]


def page(data: str, work: Path, steps: list[list[str]]) -> str:
    """Return the whole page."""
    from repkit.report.compare import compare_runs

    runs = {}
    for folder in sorted((work / "runs" / "neumann2019").iterdir()):
        protocol = json.loads((folder / "protocol.json").read_text())
        if json.loads((folder / "status.json").read_text())["state"] == "done":
            runs[next(iter(protocol["parts"]["corpora"]))] = folder
    runs = {corpus: runs[corpus] for corpus in CORPORA if corpus in runs}
    seconds = {corpus: json.loads((folder / "status.json").read_text())["seconds"] for corpus, folder in runs.items()}
    environment = json.loads((next(iter(runs.values())) / "environment.json").read_text())
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    intro = (Path(__file__).parent / "neumann2019_intro.md").read_text(encoding="utf-8")
    parts = [
        intro.rstrip().replace("{ser_epochs}", str(SER_EPOCHS)),
        "## Stage one: does the decoder use the vector?",
        "\n".join(stage_one_table(work)),
        "Error on speech of held-out speakers when the decoder is given the utterance's own vector, another utterance's, or zeros. "
        "Where another's vector does as well as one's own, the reconstruction error says nothing about the vector.",
        "## Stage two: UAR",
        compare_runs(list(runs.values())).rstrip(),
        "## The paper's numbers",
        "\n".join(paper_table(runs)),
        "## Does the vector help, and more than its controls?",
        "Points of pooled UAR with the 95 % interval of a paired bootstrap over speakers; `helps` needs the whole interval above zero and "
        "p < 0.05 by sign flips over speakers, `does not help` an interval that, widened for the number of speakers, ends below +1 point, "
        "`cannot tell` is all else.",
        f"Number of corpora (of {len(runs)}) on which:",
        "\n".join(summary(runs)),
        "\n".join(verdicts(runs)),
        "## Commands",
        common.commands_block(steps, data),
        "Wall time of stage two, three seeds, "
        + f"{environment['cores']} processes: "
        + ", ".join(f"{corpus} {value / 60:.0f} min" for corpus, value in seconds.items())
        + " (other work ran on the machine at the same time; no speed claim).",
        f"Environment: repkit {environment['repkit']}, Python {environment['python']}, {versions}.",
        "This page was written by `python docs/results/neumann2019.py --data DATA --work WORK`.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    common.main(__file__, commands, page)
