"""docs/reference/cli.md: every command, option and default, from the functions themselves."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generators.text import HEADER, table


@dataclass(frozen=True)
class Parameter:
    """An option or argument of a command.

    Attributes:
        name: ``--set``, or the argument's name in capitals.
        value: what it takes, as text; empty for a flag.
        default: as text, empty for none.
        help: what it means.
        required: whether it must be given.
        repeatable: whether it can be given several times.
        is_option: False for an argument.
    """

    name: str
    value: str
    default: str
    help: str
    required: bool
    repeatable: bool
    is_option: bool


@dataclass(frozen=True)
class Command:
    """A command such as ``corpora check``."""

    name: str
    help: str
    parameters: tuple[Parameter, ...]

    @property
    def usage(self) -> str:
        """One line as in ``--help``."""
        words = ["repkit", self.name]
        for p in self.parameters:
            shown = f"{p.name} {p.value}".strip() if p.is_option else p.name
            if p.repeatable:
                shown += " ..."
            words.append(shown if p.required else f"[{shown}]")
        return " ".join(words)


def commands() -> list[Command]:
    """Return every command of ``repkit`` in the order of its help."""
    from repkit.cli import COMMANDS

    found = []
    for name, (module, _) in COMMANDS.items():
        app = importlib.import_module(module).app
        group = app.registered_callback is not None or len(app.registered_commands) > 1
        for info in app.registered_commands:
            own = info.name or info.callback.__name__.replace("_", "-")
            found.append(_command(f"{name} {own}" if group else name, info.callback))
    return found


def _command(name: str, function: Callable[..., Any]) -> Command:
    hints = typing.get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    shown = {key: value for key, value in signature.parameters.items() if not _hidden(hints[key])}
    parameters = [_parameter(key, hints[key], value.default) for key, value in shown.items()]
    # positional arguments come first on a command line
    ordered = [p for p in parameters if not p.is_option] + [p for p in parameters if p.is_option]
    return Command(name, inspect.getdoc(function) or "", tuple(ordered))


def _hidden(hint: Any) -> bool:
    return bool(getattr(typing.get_args(hint)[1], "hidden", False))


def _parameter(key: str, hint: Any, default: object) -> Parameter:
    kind, info = typing.get_args(hint)[:2]
    is_option = type(info).__name__ == "OptionInfo"
    if type(None) in typing.get_args(kind):
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
    repeatable = typing.get_origin(kind) is list
    inner = typing.get_args(kind)[0] if repeatable else kind
    # in an Annotated option the first name may stand where its default would
    names = [*(info.param_decls or ()), info.default]
    declared = [text for text in names if isinstance(text, str) and text.startswith("--")]
    name = declared[0] if declared else f"--{key.replace('_', '-')}" if is_option else key.upper()
    choices = typing.get_args(inner) if typing.get_origin(inner) is typing.Literal else ()
    plain = {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}
    value = info.metavar or ("|".join(choices) if choices else plain.get(inner, "")) if is_option else ""
    required = default is inspect.Parameter.empty
    empty = default is None or default is False or default == [] or required
    # what --help shows in place of a default that is None or empty
    said = info.show_default if isinstance(info.show_default, str) else "" if empty else str(default)
    return Parameter(name, value, said, info.help or "", required, repeatable, is_option)


def cli_page() -> str:
    """Return docs/reference/cli.md."""
    from repkit.cli import main, root

    exit_codes = (inspect.getdoc(main) or "").split("Exit codes: ")[1].rstrip(".")
    parts = [
        HEADER,
        "# Command line",
        inspect.getdoc(root) or "",
        f"Exit codes: {exit_codes}. `repkit --version` shows the version, `repkit --install-completion` installs "
        "completion for your shell, `--help` (at the top also `-h`) explains every command. "
        "Results go to standard output, messages and progress to standard error.",
        "`REPKIT_CACHE` names the folder for frames that can be made again (default `~/.cache/repkit`); "
        "`REPKIT_PLUGINS=none`, or a comma list of distributions, says whose components may be used.",
    ]
    for command in commands():
        parts += [f"## repkit {command.name}", command.help, f"```\n{command.usage}\n```"]
        for title, wanted in (("argument", False), ("option", True)):
            rows = [_parameter_row(p) for p in command.parameters if p.is_option is wanted]
            if rows:
                parts.append(table((title, "default", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _parameter_row(p: Parameter) -> tuple[str, str, str]:
    shown = f"`{p.name} {p.value}`" if p.value else f"`{p.name}`"
    return shown, "required" if p.required else f"`{p.default}`" if p.default else "", p.help
