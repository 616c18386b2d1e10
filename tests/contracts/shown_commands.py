"""Commands as the pages show them, and what the real command line says of each, without running any."""

import ast
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from typer.core import TyperCommand
from typer.main import get_command

from repkit.cli import COMMANDS, app

SHELLS = ("console", "sh", "bash", "shell")
ENDS = {">", ">>", "|", "&&", "||", "&", ";"}
"""Words after which something else than the command's own arguments comes."""
_NAMES = "|".join(COMMANDS)


class Wrong(Exception):
    """What the command line would refuse."""


@dataclass(frozen=True)
class Shown:
    """A command as it is shown.

    Attributes:
        text: the whole of it, lines joined.
        words: what follows ``repkit``.
        whole: whether it can be typed as it stands; a mention in a sentence may leave required options out.
    """

    text: str
    words: tuple[str, ...]
    whole: bool


@dataclass(frozen=True)
class Parsed:
    """What the command line makes of the words: the command, such as ``corpora check``, and its parameters by name."""

    command: str
    given: dict


def blocks(text, *languages):
    """Return the contents of the fenced blocks of some languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [block for language, block in found if language in languages]


def without_blocks(text):
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def inline_code(text):
    """Return what stands between single backticks; lines may break inside."""
    found = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"``[^`]*``", "", text))
    return [re.sub(r"\s*\n[ #]*", " ", one) for one in found if "\n\n" not in one]


def shell_lines(text):
    """Return the commands of all shell blocks, continued lines joined; of console blocks those after ``$``."""
    found = []
    for language in SHELLS:
        for block in blocks(text, language):
            lines = re.sub(r" *\\\n\s*", " ", block).splitlines()
            found += [line[2:] for line in lines if line.startswith("$ ")] if language == "console" else lines
    return found


def words_of(text):
    """Return the words after ``repkit``, or None where the text runs something else."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:  # an apostrophe: a sentence
        return None
    for place, word in enumerate(words):
        leading = all("=" in before for before in words[:place])
        if word == "repkit" and (leading or words[place - 1] == "-m"):
            rest = words[place + 1 :]
            end = next((i for i, one in enumerate(rest) if one in ENDS), len(rest))
            return tuple(rest[:end])
    return None


def of_page(text, records=False):
    """Return the commands of a Markdown page: its shell blocks, its recipes' first lines and its inline code.

    Blocks without a language count too, but for usage lines, and where they are `records` of what an earlier version ran.
    """
    whole = shell_lines(text)
    for block in [] if records else blocks(text, ""):
        whole += [line for line in block.splitlines() if line.startswith("repkit ") and " [-" not in line]
    for block in blocks(text, "toml"):
        whole += re.findall(r"^# (repkit .*)$", block, flags=re.MULTILINE)
    return [*_shown(whole, True), *_shown(inline_code(without_blocks(text)), False)]


def of_recipe(text):
    """Return the commands in the comments at the head of a recipe; the first line is one."""
    head = re.match(r"(?:#.*\n)*", text)[0]
    lines = [line.removeprefix("#").strip() for line in head.splitlines()]
    inline = inline_code("\n".join(lines))
    plain = [re.search(rf"\brepkit (?:{_NAMES}) .*", re.sub(r"`[^`]*`", "", line)) for line in lines]
    return [*_shown([found[0] for found in plain if found], True), *_shown(inline, False)]


def of_program(text):
    """Return the commands between backticks in the strings of a Python file: docstrings, help and messages."""
    found = []
    inside = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in ast.walk(node) if part is not node}
            parts = [part.value if isinstance(part, ast.Constant) else "PLACE" for part in node.values]
            found += inline_code("".join(parts).replace("``", "`"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            found += inline_code(node.value.replace("``", "`"))
    return _shown(found, False)


def _shown(texts, whole):
    found = []
    for text in texts:
        words = words_of(text)
        if words and (whole or words[0].startswith("-") or words[0] in COMMANDS or len(words) > 1):
            found.append(Shown(text, words, whole))
    return found


def parse(shown):
    """Return what the command line makes of a command, None for ``repkit --version`` and the like.

    Raises:
        Wrong: an unknown command, option or choice; something missing from a command that is shown whole.
    """
    words, whole = _without_dots(shown.words, shown.whole)
    if words[0].startswith("-"):
        # options of repkit itself act as soon as they are parsed: --install-completion writes into the home folder
        known = {name for one in get_command(app).params for name in one.opts} | {"-h", "--help"}
        if words[0] not in known:
            raise Wrong(f"{shown.text}\nrepkit has no option {words[0]}")
        return None
    is_use = whole or any(word.startswith("-") for word in words)
    seen = []
    with mock.patch.object(TyperCommand, "invoke", lambda self, ctx: seen.append(ctx)):
        for _ in range(9):
            try:
                get_command(app).main(list(words), prog_name="repkit", standalone_mode=False)
                break
            except Exception as error:  # typer brings its own copy of click, whose classes have no public name
                kind, parameter = type(error).__name__, getattr(error, "param", None)
                if kind == "NoArgsIsHelpError" and not is_use:  # a group is mentioned
                    return None
                if not whole and kind == "BadOptionUsage" and words[-1].startswith("-"):
                    words = [*words, "1"]  # the option itself is what is talked of
                    continue
                if kind != "MissingParameter" or whole or parameter is None:
                    if not hasattr(error, "format_message"):
                        raise
                    raise Wrong(f"{shown.text}\n{kind}: {error.format_message()}") from error
                words = [*words, *parameter.opts[:1], "PLACE"] if parameter.opts[0][0] == "-" else [*words, "PLACE"]
    if not seen:
        return None
    (context,) = seen
    for option in context.command.params:
        if not getattr(option, "multiple", True):  # arguments have no such attribute
            twice = [name for name in option.opts if list(words).count(name) > 1]
            if twice:
                raise Wrong(f"{shown.text}\n{twice[0]} more than once; the last alone would count")
    return Parsed(context.command_path.removeprefix("repkit").strip(), context.params)


def _without_dots(words, whole):
    """Leave out ``...`` that stands for further arguments (one for a value stays), and write 1 for ``N``."""
    kept = [
        w for before, w in zip(["", *words], words) if w != "..." or (before.startswith("--") and "=" not in before)
    ]
    return ["1" if w == "N" else w for w in kept], whole and len(kept) == len(words)


def shown_in(path: Path):
    """Return the commands shown in a file, by its kind."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return of_page(text, records="results" in path.parts)
    return of_recipe(text) if path.suffix == ".toml" else of_program(text)
