"""A paper's tables beside ours: Markdown, CSV and a figure, made of the cells that `repkit reproduce` has found."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from repkit.audio.named_specs import SPECS
from repkit.audio.presets import PRESETS
from repkit.papers import Block, PaperFile, Table
from repkit.report.style import COLOURS, GREY, panels, save, styled
from repkit.report.tables import percent, points, span, table
from repkit.runs.atomic import write_text_atomic

Record = Mapping[str, Any]
HEADER = ("system", "corpus", "paper", "ours", "95 % interval", "ours - paper", "published is", "seeds", "differs")
RUNS_HEADER = ("run", "protocol", "protocol id", "chosen by", "command")
SELECTION_WORDS = {
    "dev.uar": "best UAR on dev",
    "dev.wa": "best accuracy on dev",
    "dev.corpus_uar": "best mean over corpora of UAR on dev",
    "last": "last epoch, nothing chosen",
    "nested": "inner folds of the training speakers",
    "test": "best on the test folds themselves: optimistic",
}
UNITS = {"uar": "UAR", "wa": "accuracy"}
WHAT_THE_INTERVAL_IS = (
    "Ours: mean over folds for each seed, then over seeds, in percent. Interval: 95 %, bootstrap over speakers and, "
    "independently, over seeds; it says how another draw of speakers and seeds would change our number, and nothing of the "
    "paper's own spread. *inside*, *outside*: whether the published number lies in it. *Differs*: what makes ours another "
    "quantity than the published one; such a row is no reproduction, however near it comes."
)
COLUMNS = (
    "table", "block", "system", "like", "corpus", "view", "metric", "part", "paper", "paper_min", "paper_max", "paper_printed",
    "paper_seeds", "chance", "state", "ours", "low", "high", "difference", "verdict", "n_seeds", "n_speakers",
    "n_utterances", "n_folds", "differs", "notes", "needs", "protocol_id", "selection", "run", "command",
)  # fmt: skip
"""Columns of table.csv; numbers in percent. ``like``: the system whose published number a row has that the paper does not."""
PAPER_LOOK: Mapping[str, Any] = {"marker": "x", "ms": 6, "mew": 1.5}
LIKE_LOOK: Mapping[str, Any] = {"marker": "D", "mfc": "none", "ms": 6.5, "mew": 1.0}
"""How the figure marks a published number, and one of another system that a row stands beside."""
MOST_FOLDS = 6
"""Folds of a cell that the page lists one by one."""


def write_tables(out: Path, paper: PaperFile, records: Sequence[Record], *, figure: bool = True) -> None:
    """Write ``table.csv``, ``table.md`` and, where anything is measured, ``figure.png`` into a folder.

    Args:
        out: the folder.
        paper: whose cells these are.
        records: every cell, as in cells.json.
        figure: draw it, which takes most of the time; without it the page has none.
    """
    write_text_atomic(out / "table.csv", csv_text(records))
    drawn = draw(paper, records, out / "figure.png") if figure else None
    write_text_atomic(out / "table.md", markdown(paper, records, drawn))


def measured_row(record: Record) -> list[str]:
    """Return a measured cell as the row that terminal and page print, in the order of `HEADER`."""
    ours, paper = record["ours"], record["paper"]
    return [
        record["system"],
        record["corpus"],
        paper_text(paper) + (f" of {record['like']}" if record["like"] else ""),
        percent(ours["value"]),
        span(ours["low"], ours["high"]),
        points(ours["difference"]),
        ours["verdict"] or "-",
        str(len(ours["seeds"])),
        "; ".join(record["differs"]) or "-",
    ]


def paper_text(paper: Mapping[str, Any]) -> str:
    """Return a published number as printed, with its extremes where it has them."""
    if paper["value"] is None:
        return "-"
    n = paper["decimals"]
    text = f"{paper['value']:.{n}f}"
    if paper["minimum"] is not None and paper["maximum"] is not None:
        text += f" ({paper['minimum']:.{n}f} to {paper['maximum']:.{n}f})"
    return text


def summary(records: Sequence[Record]) -> list[str]:
    """Return in a few sentences how many cells there are, where the published numbers lie, and what is missing.

    Rows printed beside another system's number (``like``) are no cells of the paper and counted apart.
    """
    cells = [record for record in records if record["like"] is None]
    beside = sum(record["state"] == "measured" for record in records if record["like"] is not None)
    by_state: dict[str, int] = {}
    for record in cells:
        by_state[record["state"]] = by_state.get(record["state"], 0) + 1
    found = [record for record in cells if record["state"] == "measured" and record["ours"]["verdict"]]
    same, other = ([r for r in found if bool(r["differs"]) is differs] for differs in (False, True))
    more = f", and {beside} beside them that the paper does not have" if beside else ""
    lines = [f"{by_state.get('measured', 0)} of {len(cells)} cells are measured{more}."]
    for some, kind in ((same, "set up as published"), (other, "set up otherwise (see *differs*)")):
        if some:
            verdicts = [record["ours"]["verdict"] for record in some]
            lower = sum(r["ours"]["verdict"] == "outside" and r["ours"]["difference"] < 0 for r in some)
            outside = verdicts.count("outside")
            told = f" ({lower} of them ours lower, {outside - lower} ours higher)" if outside else ""
            told += f", {verdicts.count('no interval')} without interval" if "no interval" in verdicts else ""
            lines.append(
                f"{len(some)} {kind}: {verdicts.count('inside')} inside the interval, {outside} outside{told}."
            )
    rest = {
        "failed": "failed",
        "missing": "wait for corpora or packages",
        "ready": "are not run yet",
        "not chosen": "were not chosen",
        "published": "cannot be run",
    }
    told = [f"{by_state[state]} {words}" for state, words in rest.items() if by_state.get(state)]
    return [*lines, *([f"{', '.join(told)}."] if told else [])]


def missing_lines(records: Sequence[Record], state: str) -> list[tuple[str, str]]:
    """Return the cells of a state by what they say for themselves: the reason, and the published numbers in one line."""
    by_reason: dict[str, list[Record]] = {}
    for record in records:
        if record["state"] == state and (record["like"] is None or state == "failed"):
            by_reason.setdefault(record["why"], []).append(record)
    several = len({record["table"] for record in records}) > 1
    found = []
    for reason, some in by_reason.items():
        by_corpus: dict[str, list[str]] = {}
        for record in some:
            table_name = " ".join(filter(None, (record["table"], record["block_name"])))
            place = f"{table_name}, {record['corpus']}" if several else record["corpus"]
            by_corpus.setdefault(place, []).append(f"{record['system']} {paper_text(record['paper'])}")
        found.append((reason, "; ".join(f"{place}: {', '.join(cells)}" for place, cells in by_corpus.items())))
    return found


def where_to_get(paper: PaperFile, records: Sequence[Record]) -> list[str]:
    """Return one line for every corpus that is missing: its name, where it is obtained and on what terms."""
    names = dict.fromkeys(name for record in records if record["state"] == "missing" for name in record["missing"])
    lines = []
    for name in names:
        corpus = paper.corpora_by_name.get(name)
        title = corpus.title if corpus else name
        if name in SPECS:
            about = f"{SPECS[name].home}; {SPECS[name].licence}"
        elif name in PRESETS:
            about = f"{PRESETS[name].home}; {PRESETS[name].licence}"
        else:
            about = (corpus.note if corpus else "") or "not read by name: a folder with a metadata.csv"
        lines.append(f"{name}: {title}; {about}")
    return lines


def markdown(paper: PaperFile, records: Sequence[Record], figure: Path | None) -> str:
    """Return the page."""
    reference = f", doi {paper.doi}" if paper.doi else ""
    parts = [
        f"# {paper.name}, reproduced",
        f"{paper.authors}, *{paper.title}*, {paper.venue} {paper.year}{reference}.",
        "\n".join(f"- {line}" for line in summary(records)),
        WHAT_THE_INTERVAL_IS,
    ]
    if figure is not None:
        parts.append(f"![The paper's numbers and ours]({figure.name})")
    for one in paper.tables:
        parts += _table_part(one, records)
    failed = missing_lines(records, "failed")
    if failed:
        parts += ["## Failed", "\n".join(f"- **{_line(reason)}**: {told}" for reason, told in failed)]
    for state, title in (("missing", "Missing"), ("published", "Published only"), ("ready", "Not run yet")):
        lines = missing_lines(records, state)
        if lines:
            parts += [f"## {title}", "\n".join(f"- {_line(reason) or 'to be run'}. {told}" for reason, told in lines)]
    wanted = where_to_get(paper, records)
    if wanted:
        parts += ["## Where to get them", "\n".join(f"- {line}" for line in wanted)]
    parts += (
        ["## What is known of the paper's numbers", "\n".join(f"- {note}" for note in paper.notes)]
        if paper.notes
        else []
    )
    parts += _runs_part(records)
    return "\n\n".join(parts) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _table_part(one: Table, records: Sequence[Record]) -> list[str]:
    part = [f"## {one.id.replace('_', ' ')}: {one.caption}", f"Protocol: {one.protocol}."]
    for place, block in enumerate(one.blocks):
        found = [r for r in records if (r["table"], r["block"]) == (one.id, place) and r["state"] == "measured"]
        if block.name:
            part.append(f"### {block.name}")
        part.append(_published_table(one, place, block, records))
        if found:
            part.append(table(HEADER, [measured_row(record) for record in found]))
            part += _notes(found)
            part += _folds(block, found)
        else:
            part.append("None of these is measured.")
    return part


def _published_table(one: Table, place: int, block: Block, records: Sequence[Record]) -> str:
    """Return the paper's block as it is printed; what is measured is bold, with ours behind it."""
    cells = {(r["corpus"], r["system"]): r for r in records if (r["table"], r["block"]) == (one.id, place)}
    systems = list(dict.fromkeys(system for _, system in cells))
    corpora = list(dict.fromkeys(corpus for corpus, _ in cells))

    def text(corpus: str, system: str) -> str:
        record = cells.get((corpus, system))
        if record is None:
            return "-"
        ours = percent(record["ours"]["value"]) if record["ours"] else ""
        if record["like"] is not None:  # the paper does not have it
            return f"- / {ours}" if ours else "-"
        published = paper_text({**record["paper"], "minimum": None})
        return f"**{published}** / {ours}" if ours else published

    header = [f"{UNITS[block.metric]} / %: paper / ours", *systems]
    return table(header, [[corpus, *(text(corpus, system) for system in systems)] for corpus in corpora])


def _notes(found: Sequence[Record]) -> list[str]:
    """Return the remarks on measured cells, each with the cells it is on."""
    told: dict[str, list[str]] = {}
    for record in found:
        printed = record["paper"]["printed"]
        extra = [f"printed as {printed:.{record['paper']['decimals']}f}"] if printed is not None else []
        for text in (*extra, *record["paper"]["notes"], *record["notes"]):
            told.setdefault(text, []).append(f"{record['system']}/{record['corpus']}")
    lines = [
        f"- {text} ({', '.join(cells) if len(cells) <= 6 else f'{len(cells)} cells'})" for text, cells in told.items()
    ]
    return ["\n".join(lines)] if lines else []


def _folds(block: Block, found: Sequence[Record]) -> list[str]:
    """Return the score of each fold of the cells that have few: a mean over few folds hides how far they lie apart."""
    lines = []
    for record in found:
        folds = record["ours"].get("folds") or {}  # absent where the run was measured by an older version and is gone
        if 1 < len(folds) <= MOST_FOLDS:
            listed = ", ".join(f"{name} {percent(value)}" for name, value in folds.items())
            lines.append(f"- {record['system']}/{record['corpus']}: {listed}")
    what = f"{UNITS[block.metric]} of each fold, mean over seeds, in percent (cells of at most {MOST_FOLDS} folds):"
    return [what, "\n".join(lines)] if lines else []


def run_rows(records: Sequence[Record]) -> list[list[str]]:
    """Return one row per run behind the cells, in the order of `RUNS_HEADER`."""
    runs = {record["run"]["path"]: record["run"] for record in records if record["run"]}
    return [
        [
            run["path"],
            run["protocol"],
            run["protocol_id"],
            SELECTION_WORDS.get(run["selection"], run["selection"]),
            run["command"],
        ]
        for run in runs.values()
    ]


def _runs_part(records: Sequence[Record]) -> list[str]:
    rows = run_rows(records)
    if not rows:
        return []
    commands = "\n".join(dict.fromkeys(row[-1] for row in rows))
    return [
        "## Runs",
        "Each has a report of its own. Chosen by: what chose the epoch, or the settings of a model that is fitted in one go.",
        table(RUNS_HEADER[:-1], [[row[0], row[1], f"`{row[2]}`", row[3]] for row in rows]),
        f"```\n{commands}\n```",
    ]


def csv_text(records: Sequence[Record]) -> str:
    """Return every cell as one row of `COLUMNS`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records:
        ours, run, paper, how = record["ours"] or {}, record["run"] or {}, record["paper"], record["how"]
        row = {
            **{key: record[key] for key in ("table", "block", "system", "like", "corpus", "state")},
            **{key: how[key] for key in ("view", "metric", "part")},
            **{"paper": paper["value"], "paper_min": paper["minimum"], "paper_max": paper["maximum"]},
            **{"paper_printed": paper["printed"], "paper_seeds": paper["seeds"], "chance": paper["chance"]},
            **{key: ours.get(key) for key in ("verdict", "n_speakers", "n_utterances", "n_folds")},
            **{key: _hundredths(ours.get(key)) for key in ("low", "high", "difference")},
            "ours": _hundredths(ours.get("value")),
            "n_seeds": len(ours["seeds"]) if ours else None,
            "differs": "; ".join(record["differs"]) if ours else "",
            "notes": "; ".join([*paper["notes"], *record["notes"]]),
            "needs": record["why"],
            **{key: run.get(key) for key in ("protocol_id", "selection", "command")},
            "run": run.get("path"),
        }
        writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return text.getvalue()


def _hundredths(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.2f}"


def draw(paper: PaperFile, records: Sequence[Record], path: Path) -> Path | None:
    """Draw every measured cell beside the published number, one panel per block and system; None without any.

    Filled points are set up as published, empty ones differ. A cross is the published number, a diamond that of another system.
    """
    groups: dict[tuple[str, int, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record["table"], record["block"], record["system"]), []).append(record)
    shown = {key: some for key, some in groups.items() if any(record["ours"] for record in some)}
    if not shown:
        return None
    blocks = {(one.id, place): block for one in paper.tables for place, block in enumerate(one.blocks)}
    most = max(len(some) for some in shown.values())
    limits = _limits([record for some in shown.values() for record in some])
    with styled():
        figure, axes = panels(len(shown), columns=min(4, len(shown)), width=3.0, height=1.0 + 0.2 * most)
        for panel, ((table_id, place, system), some) in zip(axes, shown.items()):
            for row, record in enumerate(some):
                _draw_cell(panel, row, record)
            block = blocks[table_id, place]
            title = ", ".join(text for text in (system, table_id.replace("_", " "), block.name) if text)
            panel.set_title(title, fontsize=8.5)
            panel.set_yticks(range(len(some)), [record["corpus"] for record in some], fontsize=7.5)
            panel.set_ylim(len(some) - 0.4, -0.6)
            panel.set_xlim(*limits)
            panel.set_xlabel(f"{UNITS[block.metric]} / %")
        handles, labels = _legend(beside=any(record["like"] for some in shown.values() for record in some))
        figure.legend(handles, labels, loc="outside upper left", ncols=4)
        return save(figure, path)


def _limits(records: Sequence[Record]) -> tuple[float, float]:
    """Return the ends of the axis that all panels share."""
    found = [record["paper"]["value"] for record in records if record["paper"]["value"] is not None]
    for ours in (record["ours"] for record in records if record["ours"]):
        found += [100 * ours[key] for key in ("value", "low", "high") if ours[key] is not None]
    return min(found) - 3, max(found) + 3


def _draw_cell(panel: Any, row: int, record: Record) -> None:
    if record["paper"]["value"] is not None:
        colour = GREY if record["ours"] is None else "black"
        look = LIKE_LOOK if record["like"] else PAPER_LOOK
        panel.plot(record["paper"]["value"], row, ls="", color=colour, zorder=4, **look)
    ours = record["ours"]
    if ours is None:
        return
    colour = COLOURS[0] if ours["verdict"] != "outside" else COLOURS[5]
    if ours["low"] is not None:
        panel.plot([100 * ours["low"], 100 * ours["high"]], [row, row], color=colour, lw=2)
    fill = "white" if record["differs"] else colour
    panel.plot(100 * ours["value"], row, "o", ms=5.5, mec=colour, mfc=fill, mew=1.2)


def _legend(*, beside: bool) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    other = {"paper, of another system": Line2D([], [], color="black", ls="", **LIKE_LOOK)}
    kinds = {
        "paper": Line2D([], [], color="black", ls="", **PAPER_LOOK),
        **(other if beside else {}),
        "ours, 95 % interval": Line2D([], [], marker="o", color=COLOURS[0]),
        "paper outside it": Line2D([], [], marker="o", color=COLOURS[5]),
        "set up otherwise": Line2D([], [], marker="o", mfc="white", mec=COLOURS[0], ls=""),
    }
    return list(kinds.values()), list(kinds)
