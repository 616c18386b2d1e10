"""What the pages promise: a tutorial and examples that work, links that lead somewhere, references up to date."""

import glob
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shown_commands import blocks, shell_lines, without_blocks

from repkit.cli import main
from repkit.store import open_store

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").glob("*/README.md")])
PAGE_IDS = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.fixture(scope="module")
def generator():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        yield importlib.import_module("generate")
    finally:
        sys.path.remove(str(ROOT / "docs"))
        for name in [n for n in sys.modules if n == "generate" or n.split(".")[0] == "generators"]:
            del sys.modules[name]


def run_command(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_relative_link_leads_somewhere(page):
    text = without_blocks(page.read_text(encoding="utf-8"))
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{target} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", goal.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target


def test_every_page_is_found_from_the_readme():
    """`*_intro.md` are parts of result pages, plugins' pages belong to their distributions."""
    wanted = {page for page in PAGES if "plugins" not in page.parts and not page.name.endswith("_intro.md")}
    found, next_ones = set(), {ROOT / "README.md"}
    while next_ones:
        page = next_ones.pop()
        found.add(page)
        targets = re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", without_blocks(page.read_text(encoding="utf-8")))
        next_ones |= {goal for t in targets if ":" not in t and (goal := (page.parent / t).resolve()) not in found}
    assert wanted - found == set()


def test_the_generated_pages_are_up_to_date(generator):
    assert generator.stale() == [], "run make docs"


def test_a_stale_page_is_found_and_check_writes_nothing(generator, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generator, "DOCS", tmp_path)
    monkeypatch.setattr(generator, "PAGES", {"reference/x.md": lambda: "new\n"})
    assert generator.main(["--check"]) == 1
    assert "docs/reference/x.md: stale" in capsys.readouterr().err
    assert list(tmp_path.rglob("*.md")) == []
    assert generator.main([]) == 0
    assert (tmp_path / "reference/x.md").read_text() == "new\n"
    assert generator.main(["--check"]) == 0
    (tmp_path / "reference/x.md").write_text("old\n")
    assert generator.main(["--check"]) == 1


LISTED = ("train-ser", "pretrain-ae", "scale")
"""Kinds of recipes; the list of all recipes has a column that may be empty."""


def test_every_key_and_option_of_the_references_is_explained():
    empty = [
        line
        for name in ("recipes", "cli")
        for line in (ROOT / f"docs/reference/{name}.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and line.endswith("| |") and not any(f"{kind} |" in line for kind in LISTED)
    ]
    assert empty == []


def test_every_recipe_is_named_in_the_pages():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if "reference" not in page.parts)
    own = {path.stem for path in (ROOT / "recipes").glob("*.toml")}
    assert own
    assert {name for name in own if f"`{name}`" not in text} == set()


def test_no_page_names_a_folder_of_a_machine():
    for page in PAGES:
        found = re.findall(r"(?<![\w.:/])/(?:home|root|work|tmp|Users|mnt)/\S*", page.read_text(encoding="utf-8"))
        assert found == [], page


def test_the_store_example_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks((ROOT / "docs/store-format.md").read_text(encoding="utf-8"), "python")
    names = {}
    exec(compile(block, "docs/store-format.md", "exec"), names)
    assert names["ids"] == ("mine/a",)
    assert open_store("embeddings/by-hand/mine").left_out == {"mine/b": "is silent"}


def test_the_example_of_other_columns_works(tmp_path, monkeypatch):
    import soundfile

    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").mkdir()
    soundfile.write("recordings/1.wav", 0.1 * np.sin(np.arange(4000)), 16000)
    (tmp_path / "recordings/metadata.csv").write_text("Clip,Actor,Code\n1.wav,7,W\n")
    (block, *_) = [
        b for b in blocks((ROOT / "docs/corpora.md").read_text(encoding="utf-8"), "console") if "export" in b
    ]
    for line in block.strip().splitlines():
        subprocess.run([sys.executable, "-m", *shlex.split(line.removeprefix("$ "))], check=True)
    table = (tmp_path / "my_speech/metadata.csv").read_text().splitlines()
    assert table[1].startswith("data/1.flac,1,7,,,,anger,")


# ---------------------------------------------------------------- the tutorial


@pytest.fixture
def one_core():
    """Hold this process to one core, so that repkit starts no further processes."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_the_tutorial_runs_as_printed(tmp_path, monkeypatch, one_core, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    commands = shell_lines(page)
    assert len(commands) >= 10
    said = {}
    for command in commands:
        words = [found for word in shlex.split(command) for found in sorted(glob.glob(word)) or [word]]
        code = run_command(words, monkeypatch)
        streams = capsys.readouterr()
        assert code == 0, f"{command}\n{streams.err}"
        said[command] = streams.out
    assert (tmp_path / "my_speech/metadata.csv").read_text().startswith(blocks(page, "csv")[0])
    check = said["repkit corpora check mine=my_speech"]
    assert check.startswith("mine: 192 utterances, 192 usable, 0.12 h")
    assert ["anger", "24", "24", "48"] in [line.split() for line in check.splitlines()]
    reports = sorted(tmp_path.glob("runs/attentive_cnn/*/report.md"))
    assert len(reports) == 2
    text = "".join(report.read_text(encoding="utf-8") for report in reports)
    for promised in ("Protocol `", "What the audit flags", "last epoch", "## Classes", "## Speakers and groups",
                     "## How this was made", "## Does the vector help?", "untrained-ae", "statistics-ae"):  # fmt: skip
        assert promised in text
    assert "All rows were measured under one protocol." in (tmp_path / "comparison.md").read_text()
    assert "use of the vector" in (tmp_path / "runs/ae/log.txt").read_text()


def test_defaults_that_help_shows_stand_in_the_reference(generator):
    commands = {c.name: c for c in importlib.import_module("generators.cli").commands()}
    shown = {p.name: p.default for p in commands["probe"].parameters}
    assert shown["--protocol"] == "leave_one_speaker_group_out"
    assert (shown["--head"], shown["--by"], shown["--runs"], shown["--workers"]) == ("linear_svm", "train", "runs", "")


def test_what_can_be_given_once_is_not_called_repeatable(generator):
    for command in importlib.import_module("generators.cli").commands():
        for p in command.parameters:
            assert p.repeatable or "Repeatable" not in p.help, f"{command.name} {p.name}"
