"""Make docs/results/leaderboard.md: speaker-independent scores on published folds, without weights trained elsewhere.

    python docs/results/leaderboard.py --data FOLDER --work FOLDER

FOLDER of the data holds emodb, emovo, ravdess, urdu and librispeech (librispeech_small.md). Steps that are done are not
repeated, so that the script can be stopped and started. A system more is a line more in `SYSTEMS`; what is installed and
has no row is listed by itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import common

CORPORA = ("emodb", "emovo", "ravdess", "urdu")
OPENSMILE = {"IS09": "opensmile-IS09", "eGeMAPS": "opensmile-eGeMAPSv02", "ComParE": "opensmile-ComParE_2016"}
STATISTICS = {"statistics": "statistics-spectrogram"}
FUNCTIONALS = "functionals"
TRAINED = {
    "mix": ("cpc_prosody_functionals", 24, False),
    "mask": ("masked_spans", 24, False),
    "mixall": ("cpc_prosody_functionals", 24, True),
}
"""Recipe, epochs and whether the labelled corpora are heard too (without labels): trainings of docs/results/stage_one.py."""
JOINED = {f"functionals_and_{name}": f"{FUNCTIONALS}+embeddings/{name}-s0" for name in TRAINED}
OURS = {"functionals": FUNCTIONALS, **{name: f"{name}-s0" for name in TRAINED}, **JOINED}
EVERY = ("protocol.name=published_split", "labels.map=own")
FITTED = ("training.select_by=nested", "seeds=[0]", "normalisation.mode=global_train")
"""Fitted in one go: nothing is drawn, one seed is all; they read vectors alone, so that frames are not normalised by speaker."""
BY_TRAIN, BY_SPEAKER = ("vector.by=train",), ("vector.by=per_speaker", "vector.min_clips=1")
# of standardised vectors, whose squared distances grow with the 88 to 6373 dimensions: from 1/250 to 1/16 667
RBF = (
    "model.kernel=rbf",
    "model.c=[1.0, 4.0, 16.0]",
    "model.gamma=[6e-5, 2.5e-4, 1e-3, 4e-3]",
    "model.class_weight=balanced",
)
LINEAR = ("model.kernel=linear", "model.c=[1e-4, 1e-3, 1e-2, 1e-1]", "model.class_weight=balanced")
LOGISTIC = ("model.name=logistic_regression", "model.c=[1e-4, 1e-3, 1e-2, 1e-1]")

SYSTEMS: tuple[tuple[str, dict[str, str], tuple[str, ...]], ...] = (
    ("keesing2020_svm", OPENSMILE, (*FITTED, *BY_TRAIN, *RBF)),
    ("keesing2020_svm", {**OPENSMILE, **STATISTICS}, (*FITTED, *BY_TRAIN, *LINEAR)),
    ("keesing2020_svm", {"eGeMAPS": OPENSMILE["eGeMAPS"], **STATISTICS}, (*FITTED, *BY_TRAIN, *LOGISTIC)),
    ("keesing2020_svm", OPENSMILE, (*FITTED, *BY_SPEAKER, *RBF)),
    ("keesing2020_svm", {**OPENSMILE, **STATISTICS}, (*FITTED, *BY_SPEAKER, *LINEAR)),
    ("probe", {"functionals": FUNCTIONALS, **JOINED}, (*FITTED, *BY_TRAIN, *RBF)),
    ("probe", OURS, (*FITTED, *BY_TRAIN, *LINEAR)),
    ("probe", {"functionals": FUNCTIONALS, **JOINED}, (*FITTED, *BY_SPEAKER, *RBF)),
    ("probe", OURS, (*FITTED, *BY_SPEAKER, *LINEAR)),
    ("attentive_cnn", STATISTICS, ("training.epochs=20",)),
    (
        "keesing2020_a1",
        {},
        (
            "protocol.dev=none",
            "normalisation.mode=global_train",
            "training.class_weights=balanced",
            "training.epochs=15",
            "seeds=[0]",
        ),
    ),
    ("cross_corpus", {}, ("model.name=parry_cnn", "training.select_by=dev.uar", "training.epochs=15", "seeds=[0]")),
)
"""Recipe, vectors (condition to encoder) and settings of every system; each is for every corpus."""
NO_SYSTEMS = ("demo", "template")
"""Recipes that show how something is done."""
CUT = ("seeds", "normalisation", "training")
"""Tables of a recipe by which a system is more or less of what it is published as."""

INTRO = """# Leaderboard: four small corpora, published folds, no weights from elsewhere

**What this is.** Emotions of Emo-DB, EMOVO, RAVDESS and URDU, recognised in speakers that were never trained on with their labels,
by those systems of this house that two cores could train and that need no weights trained elsewhere. What has no row stands at the
end ([not run](#not-run)). Every number is of the same published folds and comes from a run directory; the command beside it makes it
again, after those that make the [vectors](#vectors).

**Splits.** Speakers and utterance names of every fold are in the package, so that others can test the very same folds. The protocol
`published_split` reads them: any copy of a corpus will do that has all utterances under their official file names.

{splits}

**How to read it.** Systems are ranked by themselves if they use anything of the test speakers before they predict: their unlabelled
audio (normalisation or standardisation by speaker, an encoder that has heard it), or their label counts. A test fold of few speakers
is noisy: look at the interval and at the mark {same} before you look at the rank; and the first of many is first partly by luck.
Settings are chosen on training and dev speakers; a run that chose them on test is refused. On URDU what is standardised by speaker
means nothing: 26 of its 29 speakers say one emotion only, which goes with the speaker's mean ([more](stage_one.md#without-urdu)).

**A row of your own.** Train under the protocol, then rank all runs of a folder. The runs behind this page are not shipped: to have
your system among these rows, run the script that wrote the page, or the commands of the rows you need, first.

```console
$ repkit train-ser --recipe attentive_cnn --corpus emodb=PATH --set protocol.name=published_split
$ repkit leaderboard runs --out leaderboard.md
```

Report the split with its version, the protocol id, and the UAR with its interval. `protocol.dev=none` trains on the published dev
speakers too, for systems that choose nothing by dev. A system outside repkit takes the lists of the split files; its score is
comparable if every utterance of the split was tested once, by a system that has not seen the fold's test speakers.

## The best of each corpus

{best}

## Networks are cut

What the networks below were given other than their recipes say, beside the labels and folds of this page:

{cuts}
"""


def commands(data: str) -> list[common.Step]:
    """Return every repkit command in order."""
    # the spectrogram's bands are what the statistics are taken of; the network itself is not used
    speech = common.corpora_options(data, ("librispeech",))
    small = ["--set", "training.epochs=1", "--set", "training.hidden_size=8"]
    steps = [["pretrain-ae", "--recipe", "autoencoder", *speech, "--out", "runs/spectrogram", *small]]
    for name, (recipe, epochs, everything) in TRAINED.items():
        heard = common.corpora_options(data, ("librispeech", *CORPORA) if everything else ("librispeech",))
        sets = ["--set", "training.seed=0", "--set", f"training.epochs={epochs}", "--set", "training.export=best"]
        steps.append(["pretrain-ae", "--recipe", recipe, *heard, "--out", f"runs/{name}-s0", *sets])
    encoders = [f"opensmile:{name.removeprefix('opensmile-')}" for name in OPENSMILE.values()]
    ours = ["statistics:runs/spectrogram", FUNCTIONALS, *(f"runs/{name}-s0" for name in TRAINED)]
    for encoder in [*encoders, *ours]:
        steps.append(["embed", "--encoder", encoder, *common.corpora_options(data, CORPORA), "--out", "embeddings"])
    for recipe, vectors, settings in SYSTEMS:  # so that an interrupted script has the quick systems of all corpora
        for corpus in CORPORA:
            given = [
                word for name, folder in vectors.items() for word in ("--embeddings", f"{name}=embeddings/{folder}")
            ]
            sets = [word for setting in (*EVERY, *settings) for word in ("--set", setting)]
            steps.append(["train-ser", "--recipe", recipe, *common.corpora_options(data, (corpus,)), *given, *sets])
    return steps


def split_table() -> str:
    """Return what the published splits are and by which rules they were made."""
    from repkit.evaluation.published_split import load_split, split_names

    rows: list[list[str]] = []
    rules: dict[str, list[str]] = {}
    for split in map(load_split, split_names()):
        link = f"[{split.name}](../../repkit/evaluation/splits/{split.name}.json)"
        sizes = [len(split.speaker_of), len(split.gender_of), len(split.folds)]
        rows.append([link, split.release, *map(str, sizes), f"`{split.sha256[:12]}`"])
        rules.setdefault(split.rule, []).append(split.name)
    table = common.table(["split", "release", "utterances", "speakers", "folds", "sha256"], rows)
    return table + "\n\n" + "\n".join(f"- {', '.join(names)}. {rule}" for rule, names in rules.items())


def best_table(groups: list[dict[str, Any]]) -> str:
    """Return the first system of each corpus, of both kinds."""
    rows = []
    for group in groups:
        for kind in ("inductive", "transductive"):
            for row in group[kind][:1]:
                pooled = row["uar_pooled"]
                tied = sum(not other["against_first"]["told_apart"] for other in group[kind][1:])
                rows.append(
                    [
                        group["corpus"],
                        kind,
                        f"{row['system']} ({row['model']})",
                        f"**{common.percent(row['uar']['mean'])}**",
                        common.percent(pooled["mean"], pooled["low"], pooled["high"]),
                        common.percent(group["chance"]),
                        f"{tied} of {len(group[kind]) - 1}",
                    ]
                )
    header = [
        "corpus",
        "kind",
        "system",
        "UAR mean",
        "UAR pooled [95 % interval]",
        "chance",
        "others not shown to be worse",
    ]
    return common.table(header, rows)


def _systems() -> list[tuple[str, dict[str, str], tuple[str, ...]]]:
    """Return the system of each step of train-ser."""
    return [system for system in SYSTEMS for _ in CORPORA]


def cuts(folders: Collection[Path]) -> list[str]:
    """Return a line for each network: the settings in which its runs differ from the installed recipe."""
    from repkit.config import SerRecipe, load_recipe
    from repkit.config.load import flat

    lines = []
    for folder in folders:
        mine = common.read(folder, "resolved.json")
        recipe = load_recipe(SerRecipe, mine["name"])
        ours, theirs = (flat({key: table[key] for key in CUT}) for table in (mine, recipe.model_dump(mode="json")))
        found = [
            f"`{'.'.join(map(str, key))} = {ours[key]}`, not {theirs[key]}"
            for key in theirs  # a setting that the run does not have is newer than it
            if key in ours and ours[key] != theirs[key]
        ]
        hears = recipe.normalisation.mode == "per_speaker" or recipe.training.class_weights == "balanced_all"
        if hears and mine["normalisation"]["mode"] != "per_speaker":
            found.append("as its recipe says it would be transductive")
        lines.append(f"- **{mine['name']}**: {'; '.join(found) or 'nothing'}.")
    return list(dict.fromkeys(lines)) or ["No network has a row yet."]


def not_run(missing: Collection[str], folders: Collection[Path]) -> list[str]:
    """Return what of the house has no row, as far as it is installed, and which commands of the script were not run."""
    from repkit.config import SerRecipe, load_recipe
    from repkit.config.load import read_tables
    from repkit.config.locate import list_recipes

    read = [common.read(folder, "resolved.json") for folder in folders]
    done = {(one["name"], one["model"]["name"]) for one in read}
    seconds = {folder: common.read(folder, "status.json")["seconds"] for folder in folders}
    slowest = max(seconds, key=lambda folder: seconds[folder])
    recipes = {name: origin for name, origin in list_recipes().items() if name not in NO_SYSTEMS}
    kinds = {name: read_tables(name).get("command") for name in recipes}
    of = {name: load_recipe(SerRecipe, name) for name, kind in kinds.items() if kind == "train-ser"}
    encoders = [name for name, kind in kinds.items() if kind == "pretrain-ae" and not name.startswith("demo")]
    unheard = [f"`{name}`" for name in encoders if name not in {recipe for recipe, _, _ in TRAINED.values()}]
    parts = [
        "Systems of this house (`repkit recipes list`) that have no row here: they were not run on these folds. Some learn from several "
        "corpora at once, which splits of one corpus do not offer; the column *own protocol* says what each is made for. For the others "
        "the expected reason is time on two cores: the table has the epochs and seeds that a recipe asks for, and the longest run above, "
        f"{slowest.parent.name} as it stands there, took {seconds[slowest] / 60:.0f} min. What some of them reach elsewhere: "
        "[Keesing 2020](keesing2020.md), [corpora never heard](cross_corpus.md), [domain-adversarial](dann.md), [adapters](adapters.md), "
        "[Neumann 2019](neumann2019.md).",
        unrun_table(of, recipes, done),
    ]
    models = unnamed_models(of.values(), {model for _, model in done})
    if models:
        parts.append(f"Models that no recipe names, without a row: {', '.join(f'`{name}`' for name in models)}.")
    if unheard:
        parts.append(
            f"Encoders of stage one without a row: {', '.join(unheard)} ([what some are worth on other folds](stage_one.md))."
        )
    if missing:
        parts += [
            "Commands of the script behind this page that were not run to the end:",
            "```\n" + "\n".join(f"repkit {text}" for text in missing) + "\n```",
        ]
    return parts


def unrun_table(of: Mapping[str, Any], origins: Mapping[str, str], done: Collection[tuple[str, str]]) -> str:
    """Return a row for every recipe of stage two that has models without a row on this page.

    Args:
        of: recipes of train-ser by name.
        origins: where each comes from.
        done: recipe and model of every row.
    """
    from repkit.plugins import load

    rows = []
    for name, recipe in of.items():
        left = [model for model in models_of(recipe) if (name, model) not in done]
        if left:
            fitted = all("estimator" in getattr(load("repkit.models", model), "capabilities", ()) for model in left)
            epochs = "-" if fitted else str(recipe.training.epochs)
            cells = [
                f"`{name}`",
                ", ".join(f"`{model}`" for model in left),
                origins[name].partition(" ")[0],
                recipe.protocol.name,
            ]
            rows.append([*cells, epochs, str(len(recipe.seeds)), recipe.description])
    return common.table(["recipe", "models", "from", "own protocol", "epochs", "seeds", "what it is"], rows)


def models_of(recipe: Any) -> list[str]:
    """Return the models that a recipe's conditions train."""
    own = [((one.set or {}).get("model") or {}).get("name", recipe.model.name) for one in recipe.conditions]
    return list(dict.fromkeys([*([recipe.model.name] if recipe.baseline or not own else []), *own]))


def unnamed_models(recipes: Collection[Any], done: Collection[str]) -> list[str]:
    """Return the installed models that neither a recipe nor a row names; those that only show how are no systems."""
    from repkit.plugins import components

    named = {*done, *(model for recipe in recipes for model in models_of(recipe))}
    return [
        one.name for one in components("repkit.models") if one.name not in named and not one.name.startswith(NO_SYSTEMS)
    ]


def environments(folders: Collection[Path]) -> list[str]:
    """Return a line for each set of versions under which runs were made."""
    lines = []
    for folder in folders:
        found = common.read(folder, "environment.json")
        versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
        lines.append(
            f"Environment: repkit {found['repkit']}, Python {found['python']}, {versions}; plugins {', '.join(found['plugins'])}."
        )
    return list(dict.fromkeys(lines))


def page(data: str, work: Path, steps: list[common.Step]) -> str:
    """Return the whole page, of those steps that are finished."""
    from repkit.report.leaderboard import make_board
    from repkit.report.leaderboard_page import SAME, board_markdown

    trained = [step for step in steps if step[0] == "train-ser"]
    found = {shlex.join(step): common.finished(work, step) for step in trained}
    missing = [text.replace(data, "DATA") for text, folder in found.items() if folder is None]
    folders = [folder for folder in found.values() if folder is not None]
    networks = [folder for folder, system in zip(found.values(), _systems()) if folder and FITTED[0] not in system[2]]
    if not folders:
        raise SystemExit("no run is finished; run the script without --page-only")
    board = make_board(folders)
    environment = common.read(folders[0], "environment.json")
    minutes = sum(common.read(folder, "status.json")["seconds"] for folder in folders) / 60
    parts = [
        INTRO.replace("{splits}", split_table())
        .replace("{same}", SAME)
        .replace("{best}", best_table(board.groups))
        .replace("{cuts}", "\n".join(cuts(networks)))
        .rstrip(),
        board_markdown(board),
        "## Vectors",
        "Made before the systems that read them. *statistics* are mean and deviation of each band of a spectrogram; the autoencoder that "
        "is trained for one epoch only lends it that spectrogram. *mix*, *mask* and *mixall* are encoders of stage one that no label was "
        "given to, three of the seven whose scores on other folds of the same corpora were [known before](stage_one.md). *mix* and *mask* "
        "have heard LibriSpeech alone: [471 utterances, how to make the same folder](librispeech_small.md). *mixall* has also heard the "
        "four corpora, but for some speakers on whom its loss was measured. A system is ranked as transductive on a corpus of whose test "
        "speakers its encoder has heard any.",
        common.commands_block([step for step in steps if step[0] != "train-ser"], data),
        "## Not run",
        *not_run(missing, folders),
        "## How this was made",
        f"Wall time of the {len(folders)} runs of train-ser together, {environment['cores']} cores: {minutes:.0f} min (other work ran on the "
        "machine at the same time; no speed claim).",
        *environments(folders),
        "This page was written by `python docs/results/leaderboard.py --data DATA --work WORK`.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    common.main(__file__, commands, page)
