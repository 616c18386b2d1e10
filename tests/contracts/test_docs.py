"""What the pages promise: commands that run, examples that work, links that lead somewhere, references up to date."""

import glob
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from repkit.cli import main
from repkit.config import list_recipes
from repkit.store import open_store

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PAGE_IDS = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.fixture(scope="module")
def generator():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        yield SimpleNamespace(
            generate=importlib.import_module("generate"),
            cli=importlib.import_module("generators.cli"),
        )
    finally:
        sys.path.remove(str(ROOT / "docs"))
        for name in [n for n in sys.modules if n == "generate" or n.split(".")[0] == "generators"]:
            del sys.modules[name]


def run_command(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def console_commands(text):
    return [line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")]


def without_blocks(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def repkit_commands(text):
    """Return every ``repkit ...`` shown in console blocks, first lines of recipes and inline code."""
    shown = console_commands(text) + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", without_blocks(text))
    shown += re.findall(r"^# (repkit .*)$", "\n".join(blocks(text, "toml")), flags=re.MULTILINE)
    return [command.split(" > ")[0] for command in shown if command.startswith("repkit ")]


def parse(words, commands):
    """Return the command, its positional words and its options, or raise AssertionError."""
    named = [c for c in commands if words[: len(c.name.split())] == c.name.split()]
    assert named, f"no such command: {' '.join(words)}"
    command = named[0]
    known = {p.name: p for p in command.parameters if p.is_option}
    rest, positional, options = words[len(command.name.split()) :], [], {}
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            positional.append(word)
            continue
        assert word in known, f"{command.name} has no option {word}"
        options.setdefault(word, []).append(rest.pop(0) if known[word].value else True)
    arguments = [p for p in command.parameters if not p.is_option]
    wanted = sum(p.required for p in arguments)
    most = 10**6 if any(p.repeatable for p in arguments) else len(arguments)
    if positional or options:  # a bare name is a mention, not a use
        assert wanted <= len(positional) <= most, f"{command.name} takes {wanted} to {most} arguments"
    repeated = [name for name, values in options.items() if len(values) > 1 and not known[name].repeatable]
    assert not repeated, f"{command.name}: {repeated} more than once"
    return command, positional, options


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_command_shown_parses_and_names_a_valid_recipe(page, generator, monkeypatch, capsys):
    commands = generator.cli.commands()
    for text in repkit_commands(page.read_text(encoding="utf-8")):
        words = shlex.split(text)[1:]
        if words[0].startswith("-"):
            assert words[0] in {"--help", "--version", "--install-completion"}, text
            continue
        command, positional, options = parse(words, commands)
        recipes = options.get("--recipe", []) + (positional if command.name == "recipes check" else [])
        for name in set(recipes) & set(list_recipes()):  # others are the reader's own
            settings = [word for value in options.get("--set", []) for word in ("--set", value)]
            check = ["repkit", "recipes", "check", name, *settings]
            assert run_command(check, monkeypatch) == 0, f"{text}\n{capsys.readouterr().err}"
            assert f"for `repkit {command.name}`" in capsys.readouterr().out or command.name == "recipes check"


def test_a_wrong_command_would_be_found(generator):
    commands = generator.cli.commands()
    for text in (
        "embedd --out x",
        "embed --encoder a --output b",
        "corpora check",
        "corpora show a b",
        "report --out x",
    ):
        with pytest.raises(AssertionError):
            parse(text.split() if text != "corpora check" else ["corpora", "check", "--workers", "2"], commands)


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


def test_the_generated_pages_are_up_to_date(generator):
    assert generator.generate.stale() == [], "run make docs"


def test_a_stale_page_is_found_and_check_writes_nothing(generator, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generator.generate, "DOCS", tmp_path)
    monkeypatch.setattr(generator.generate, "PAGES", {"reference/x.md": lambda: "new\n"})
    assert generator.generate.main(["--check"]) == 1
    assert "docs/reference/x.md: stale" in capsys.readouterr().err
    assert list(tmp_path.rglob("*.md")) == []
    assert generator.generate.main([]) == 0
    assert (tmp_path / "reference/x.md").read_text() == "new\n"
    assert generator.generate.main(["--check"]) == 0
    (tmp_path / "reference/x.md").write_text("old\n")
    assert generator.generate.main(["--check"]) == 1


def test_every_key_and_option_of_the_references_is_explained():
    empty = [
        line
        for name in ("recipes", "cli")
        for line in (ROOT / f"docs/reference/{name}.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and line.endswith("| |") and "train-ser |" not in line and "pretrain-ae |" not in line
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
    commands = console_commands(page)
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
