"""What `main` does around every command: exit codes, errors, warnings, interruption; and what the lists print."""

import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import soundfile
import typer

import repkit.cli
from repkit.errors import (
    BadAudioError,
    DataError,
    PluginError,
    RecipeError,
    RepkitError,
    RepkitWarning,
    SpeakerLeakError,
    StoreError,
    UsageError,
)
from repkit.plugins import discover


@pytest.fixture
def repkit_main(monkeypatch, capsys):
    """Run the real entry point; returns exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["repkit", *map(str, arguments)])
        code = 0
        try:
            repkit.cli.main()
        except SystemExit as end:
            code = end.code or 0
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


@pytest.fixture
def command(monkeypatch):
    """Put a command of one's own in the place of `repkit report`."""

    def put(function):
        app = typer.Typer()
        app.command()(function)
        module = type(sys)("repkit_test_command")
        module.app = app
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(repkit.cli.COMMANDS, "report", (module.__name__, "For a test."))

    return put


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (UsageError, 2),
        (RecipeError, 2),
        (PluginError, 3),
        (DataError, 4),
        (BadAudioError, 4),
        (StoreError, 4),
        (SpeakerLeakError, 4),
        (RepkitError, 1),
    ],
)
def test_every_error_is_one_message_and_its_exit_code(repkit_main, command, kind, code):
    def work():
        # what rich would take for markup or an emoji must come out as it is
        raise kind("a/[bold]b.wav:smile: got 1; expected 2; mend it", ["first [x]", "second"])

    command(work)
    ended, out, err = repkit_main("report")
    assert ended == code
    assert out == ""
    assert err == "error: a/[bold]b.wav:smile: got 1; expected 2; mend it\n  - first [x]\n  - second\n"


def test_a_long_message_is_not_broken_into_lines(repkit_main, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    path = "/".join(["folder"] * 30)

    def work():
        raise DataError(f"{path}: is damaged; restore it")

    command(work)
    assert repkit_main("report")[2] == f"error: {path}: is damaged; restore it\n"


def test_a_bug_keeps_its_traceback(command, monkeypatch):
    def work():
        raise KeyError("a bug")

    command(work)
    monkeypatch.setattr(sys, "argv", ["repkit", "report"])
    with pytest.raises(KeyError, match="a bug"):
        repkit.cli.main()


def test_an_exhausted_memory_is_told_with_what_to_lower(repkit_main, command):
    def work():
        raise MemoryError("Unable to allocate 8.00 GiB for an array")

    command(work)
    code, _, err = repkit_main("report")
    assert code == 1
    assert err.startswith("error: repkit: out of memory (Unable to allocate 8.00 GiB for an array)")
    assert "training.batch_size" in err


def test_a_warning_is_one_line_without_the_place_in_the_code(repkit_main, command):
    def work():
        warnings.warn("corpus x: 3 speakers; 4 were expected", RepkitWarning, stacklevel=1)

    command(work)
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always", RepkitWarning)
        code, _, err = repkit_main("report")
    assert (code, err) == (0, "warning: corpus x: 3 speakers; 4 were expected\n")
    assert warnings.showwarning is before


def test_an_interruption_outside_of_any_work_is_said_too(repkit_main, command):
    def work():
        raise KeyboardInterrupt

    command(work)
    code, _, err = repkit_main("report")
    assert code == 130
    assert err == "error: interrupted; start the same command again to go on\n"


def test_unknown_words_are_usage_errors_with_a_suggestion(repkit_main):
    code, _, err = repkit_main("train-se")
    assert code == 2
    assert "Did you mean 'train-ser'" in err
    code, _, err = repkit_main("embed", "--encoder", "x", "--out", "y", "--corpus", "synthetic_q")
    assert code == 2
    assert "--corpus synthetic_q: is not known; did you mean 'synthetic_" in err
    assert "--corpus synthetic_q=PATH for a folder of your own" in err
    code, _, err = repkit_main("embed", "--encoder", "zip:x", "--out", "y", "--corpus", "synthetic_a")
    assert code == 2
    assert "prefix 'zip' is not known; expected a run folder, untrained:, statistics: or hf: before it" in err


def test_a_corpus_is_named_once(repkit_main):
    code, _, err = repkit_main("corpora", "check", "synthetic_a", "synthetic_a")
    assert code == 2
    assert "'synthetic_a' was already given" in err


def fake(monkeypatch, group, name, value):
    real = discover.entry_points
    point = EntryPoint(name, value, group)
    monkeypatch.setattr(
        discover, "entry_points", lambda group: [*real(group=group), *([point] if group == point.group else [])]
    )


def test_a_broken_recipe_of_a_plugin_does_not_hide_the_others(repkit_main, monkeypatch):
    fake(monkeypatch, "repkit.recipes", "broken", "no_such_module_anywhere:PATH")
    code, out, _ = repkit_main("recipes", "list")
    assert code == 0
    assert "neumann2019 " in out
    (line,) = [line for line in out.splitlines() if line.startswith("broken")]
    assert "cannot be read: plugin" in line
    assert "no_such_module_anywhere" in line
    code, _, err = repkit_main("recipes", "show", "broken")
    assert code == 3
    assert "failed to import: ModuleNotFoundError" in err
    assert "mend or uninstall it" in err


def test_a_broken_component_is_blamed_when_it_is_asked_for_and_not_before(repkit_main, monkeypatch):
    fake(monkeypatch, "repkit.models", "broken", "no_such_module_anywhere:Thing")
    for arguments in (("--help",), ("plugins", "list"), ("recipes", "check", "demo"), ("corpora", "list")):
        assert repkit_main(*arguments)[0] == 0
    code, _, err = repkit_main("recipes", "check", "demo", "--set", 'model={name="broken"}')
    assert code == 3
    assert "(repkit.models: broken = no_such_module_anywhere:Thing) failed to import" in err


def test_recipes_are_checked_with_overrides(repkit_main):
    code, out, _ = repkit_main("recipes", "check", "demo", "--set", "training.epochs=3")
    assert (code, out) == (0, "demo: ok, for `repkit train-ser`\n")
    code, out, _ = repkit_main("recipes", "check", "autoencoder")
    assert (code, out) == (0, "autoencoder: ok, for `repkit pretrain-ae`\n")
    code, _, err = repkit_main(
        "recipes", "check", "autoencoder", "--set", "training.epohcs=3", "--set", "training.cell=x"
    )
    assert code == 2
    assert "training.epohcs: unknown key; did you mean 'epochs'?" in err
    assert "training.cell: got 'x'" in err
    code, _, err = repkit_main("recipes", "check", "demo", "--set", "training.epochs")
    assert code == 2
    assert "--set training.epochs: expected KEY=VALUE" in err


def test_plugins_are_listed_with_who_brings_them(repkit_main):
    code, out, _ = repkit_main("plugins", "list")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert rows[0] == ["group", "name", "from", "points", "to"]
    assert ["repkit.frontends", "log_mel", "repkit", "0.1.0", "repkit.features.log_mel:LogMel"] in rows
    assert {row[0] for row in rows[1:]} >= {f"repkit.{g}" for g in ("corpora", "encoders", "models", "protocols")}


def test_a_corpus_is_checked_and_all_that_was_found_is_printed(repkit_main, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for speaker, gender in (("s1", "female"), ("s2", "male")):
        for emotion in ("anger", "sadness"):
            name = f"{speaker}_{emotion}.wav"
            soundfile.write(folder / name, rng.normal(0, 0.1, 16000), 16000)
            rows.append(f"{name},{speaker},{gender},{emotion}")
    (folder / "copy.wav").write_bytes((folder / "s1_anger.wav").read_bytes())
    soundfile.write(folder / "quiet.wav", np.zeros(16000), 16000)
    rows += ["copy.wav,s2,male,anger", "quiet.wav,s2,male,sadness"]
    (folder / "metadata.csv").write_text("\n".join(["file_name,speaker_id,gender,emotion", *rows]) + "\n")
    code, out, err = repkit_main("corpora", "check", f"mine={folder}", "--workers", 1)
    assert code == 4
    lines = out.splitlines()
    assert lines[0] == "mine: 6 utterances, 5 usable, 0.00 h, 1.0 to 1.0 s each"
    assert lines[1].split() == ["speakers", "2", "(female", "1,", "male", "1)"]
    table = [line.split() for line in lines]
    assert ["emotion", "female", "male", "all"] in table
    assert ["anger", "1", "2", "3"] in table
    assert ["sadness", "1", "2", "3"] in table
    assert "cannot be used (1):" in lines
    assert any(line.startswith("  - mine/quiet: ") and "every sample is 0" in line for line in lines)
    assert "same sound under several ids (1):" in lines
    assert "  - mine/s1_anger = mine/copy" in lines
    assert "corpora check: 1 utterances cannot be used" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell):
    code = "import sys; sys.argv = ['repkit', '--show-completion', sys.argv[1]]; from repkit.cli import main; main()"
    environment = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, shell], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "_REPKIT_COMPLETE" in done.stdout.upper()
