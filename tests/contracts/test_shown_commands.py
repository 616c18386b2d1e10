"""Every command that a page, a recipe or the program itself shows is one that the command line takes."""

import re
import tomllib

import pytest
from shown_commands import Shown, Wrong, blocks, of_page, of_program, of_recipe, parse, shell_lines, shown_in, words_of
from shown_values import RECIPE_FILES, ROOT, wrong_values

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").glob("*/README.md")])
PROGRAMS = sorted([*(ROOT / "repkit").rglob("*.py"), *(ROOT / "plugins").glob("*/src/*/*.py")])


def relative(path):
    return path.relative_to(ROOT).as_posix()


def problems_of(shown):
    """Return all that is wrong with the commands of one file."""
    parsed, found = [], []
    for one in shown:
        try:
            parsed.append((one, parse(one)))
        except Wrong as wrong:
            found.append(str(wrong))
    trained = {str(p.given["out"]) for _, p in parsed if p is not None and p.command == "pretrain-ae"}
    for one, p in parsed:
        found += [] if p is None else [f"{one.text}\n{problem}" for problem in wrong_values(p, trained)]
    return found


@pytest.mark.parametrize("path", [*PAGES, *RECIPE_FILES], ids=relative)
def test_what_a_page_or_recipe_shows_is_taken(path):
    assert problems_of(shown_in(path)) == []


def test_what_messages_and_docstrings_tell_people_to_type_is_taken():
    found = {relative(path): problems_of(shown_in(path)) for path in PROGRAMS}
    assert {name: problems for name, problems in found.items() if problems} == {}
    assert sum(len(shown_in(path)) for path in PROGRAMS) > 40


@pytest.mark.parametrize("path", RECIPE_FILES, ids=relative)
def test_the_first_line_of_a_recipe_is_the_command_that_runs_it(path):
    text = path.read_text(encoding="utf-8")
    words = words_of(text.partition("\n")[0].removeprefix("# "))
    assert words is not None
    assert words[1:3] == ("--recipe", path.stem)


def test_the_search_finds_every_form():
    page = (
        "Say `repkit embed` or `repkit corpora check\nmine=X`.\n\n```console\n$ repkit train-ser --recipe a \\\n"
        "    --corpus b=PATH > log\nepoch 1\n$ python -m repkit recipes list   # all\n```\n\n"
        "```sh\nOMP_NUM_THREADS=1 repkit report x | less\nsrun torchrun -m repkit pretrain-ae --out x\n"
        "repkit-other y\n```\n\n```toml\n# repkit train-ser --recipe mine.toml\n```\n\n```python\nrepkit\n```\n"
        "\n```\nrepkit probe x\nrepkit embed --out PATH [--encoder X]\n```\n"
    )
    assert [(one.words, one.whole) for one in of_page(page)] == [
        (("train-ser", "--recipe", "a", "--corpus", "b=PATH"), True),
        (("recipes", "list"), True),
        (("report", "x"), True),
        (("pretrain-ae", "--out", "x"), True),
        (("probe", "x"), True),
        (("train-ser", "--recipe", "mine.toml"), True),
        (("embed",), False),
        (("corpora", "check", "mine=X"), False),
    ]
    recipe = "# repkit train-ser --recipe r --corpus a=PATH\n# First: repkit embed --out x; `repkit\n# probe --by x` too\na = 1\n# repkit x\n"
    assert [one.words[0] for one in of_recipe(recipe)] == ["train-ser", "embed", "probe"]
    program = '"""See `repkit report`."""\nx = f"{a}: do `repkit embed --out {b}` " "or ``repkit recipes list``"\n'
    assert [one.words for one in of_program(program)] == [
        ("report",), ("embed", "--out", "PLACE"), ("recipes", "list"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("embedd --out x", "No such command 'embedd'"),
        ("corpora lst", "No such command 'lst'"),
        ("embed --encoder functionals --outt b", "No such option"),
        ("embed --encoder functionals", "Missing option '--out'"),
        ("corpora check --workers 2", "Missing argument"),
        ("corpora show a b", "unexpected extra argument"),
        ("embed --encoder functionals --out x --dtype float8", "'float8' is not one of"),
        ("train-ser --recipe demo --at-once many", "valid integer"),
        ("train-ser --recipe demo --runs a --runs b", "--runs more than once"),
        ("--versoin", "no option --versoin"),
        ("train-ser --recipe demoo", "no recipe 'demoo'"),
        ("train-ser --recipe autoencoder", "is for pretrain-ae"),
        ("train-ser --recipe demo --set training.epoch=2", "unknown key; did you mean 'epochs'"),
        ("pretrain-ae --out x --split train.clean.99 --corpus librispeech", "--split: no 'train.clean.99'"),
        ("embed --encoder runs/other --out x", "neither an encoder nor"),
        ("embed --encoder functional --out x", "neither an encoder nor"),
        ("embed --encoder functionals:evrything --out x", "encoder functionals"),
        ("embed --encoder functionals --out x --encoder-set trim=0", "encoder functionals"),
        ("embed --encoder statistics:runs/other --out x", "neither an encoder nor"),
        ("embed --encoder plugin:loudness --out x", "--encoder plugin: no 'loudness'"),
        ("train-ser --recipe demo --corpus emodb", "needs emodb=PATH"),
        ("train-ser --recipe demo --corpus emdb", "no corpus 'emdb'"),
        ("train-ser --recipe demo --corpus a=PATH --hold-out urdu", "needs urdu=PATH"),
        ("train-ser --recipe demo --corpus x=plugin:toy", "--corpus plugin: no 'toy'"),
        ("train-ser --recipe demo --corpus a=PATH --corpus-set b.split=x", "--corpus-set of b"),
        ("probe x --head svm", "--head: no 'svm'"),
        ("probe x --protocol loso", "--protocol: no 'loso'"),
        ("probe x --set training.epoch=1", "did you mean"),
        ("compare x --normalisation speaker", "--normalisation: no 'speaker'"),
        ("reproduce keesing", "no paper 'keesing'"),
        ("reproduce keesing2020 --only B1/emodb", "--only: no system 'B1/emodb'"),
        ("reproduce keesing2020 --table t9", "--table: no 't9'"),
        ("plugins show attentive", "component: no 'attentive'"),
    ],
)
def test_a_wrong_command_is_found(text, said):
    (problem,) = problems_of([Shown(f"repkit {text}", tuple(text.split()), True)])
    assert said in problem


@pytest.mark.parametrize(
    "text",
    [
        "embed --encoder hf:ORG/NAME",
        "embed --encoder",
        "embed --workers N",
        "corpora",
        "train-ser --recipe NAME ... --set training.epochs=2 ...",
        "train-ser --recipe demo --corpus ... --hold-out ...",
        "--version",
    ],
)
def test_a_mention_in_a_sentence_may_leave_things_out(text):
    assert problems_of([Shown(f"repkit {text}", tuple(text.split()), False)]) == []


def test_nothing_of_what_is_shown_runs(tmp_path, monkeypatch):
    """Not even options that act as soon as they are parsed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("--install-completion", "corpora export synthetic_a x", "pretrain-ae --out x --corpus synthetic_a"):
        assert problems_of([Shown(f"repkit {text}", tuple(text.split()), True)]) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_other_lines_of_shell_blocks_name_what_is_there(path):
    """Targets of the Makefile, folders to install from and extras."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    extras = {}
    for file in [ROOT / "pyproject.toml", *(ROOT / "plugins").glob("*/pyproject.toml")]:
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        extras[project["name"]] = set(project.get("optional-dependencies", {}))
    text = path.read_text(encoding="utf-8")
    shown = [*shell_lines(text), *"\n".join(blocks(text, "")).splitlines(), *re.findall(r"`([^`\n]+)`", text)]
    for line in shown:
        if re.match(r"make [a-z-]+$", line):
            assert line.split()[1] in targets, line
        if "pip install" not in line:
            continue
        for folder in re.findall(r"(?<![\w/-])(?:\./)?(plugins/[\w-]+)", line):
            assert (ROOT / folder / "pyproject.toml").is_file(), line
        for name, wanted in re.findall(r"([\w-]*repkit[\w-]*)\[([\w,]+)\]", line):
            assert set(wanted.split(",")) <= extras[name], line
