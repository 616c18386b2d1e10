"""The command line. Importing it loads no torch: every command's module is imported when the command is called."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from repkit.errors import RepkitError, RepkitWarning

COMMANDS: dict[str, tuple[str, str]] = {
    "pretrain-ae": ("repkit.cli.pretrain_ae", "Stage one: train an encoder on unlabelled speech."),
    "embed": ("repkit.cli.embed", "Encode corpora into HDF5 embedding stores."),
    "train-ser": ("repkit.cli.train_ser", "Stage two: train and score emotion models by a recipe."),
    "predict": ("repkit.cli.predict", "Predict new audio files with the models of a run."),
    "probe": ("repkit.cli.probe", "Score embeddings with classical heads, in seconds."),
    "compare": ("repkit.cli.compare", "Tell whether stage one helps: stores, their controls, and the verdict."),
    "scale": ("repkit.cli.scale", "Tell whether more speech helps stage one: the gate against hours of speech."),
    "reproduce": ("repkit.cli.reproduce", "Run a paper's tables on the corpora you have and print them beside ours."),
    "leaderboard": ("repkit.cli.leaderboard", "Rank runs on published splits, with intervals and commands."),
    "report": ("repkit.cli.report", "Rebuild the report of a run, or compare several runs."),
    "corpora": ("repkit.cli.corpora", "List, show and check corpora."),
    "recipes": ("repkit.cli.recipes", "List, show and check recipes."),
    "plugins": ("repkit.cli.plugins", "List installed components and who brings them."),
}
"""Name, module that holds a typer app called ``app``, and one line of help."""


_LOWER = "lower --batch-size where the command has it, else training.batch_size (--set), or --workers; on a GPU --device cpu may do"
"""What a user can do about an exhausted memory, where the work itself does not know better."""


class LazyGroup(TyperGroup):
    """Knows the commands by name and imports one only when it is called."""

    _calling = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the work."""
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is called; this, unlike rendering help, imports it."""
        self._calling = True
        self.commands = dict.fromkeys(COMMANDS)  # typer looks here for a name like the one mistyped
        try:
            return super().resolve_command(ctx, args)
        finally:
            self._calling = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the real command when it is called, else a stub that shows its help line."""
        if cmd_name not in COMMANDS:
            return None
        module, text = COMMANDS[cmd_name]
        if not self._calling:
            return TyperCommand(cmd_name, help=text)
        app = importlib.import_module(module).app
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="repkit",
    cls=LazyGroup,
    help="Two-stage representation learning for speech emotion recognition.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import repkit

        typer.echo(f"repkit {repkit.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Two-stage representation learning for speech emotion recognition.

    pretrain-ae trains an encoder on unlabelled speech, embed fills the store, train-ser trains and scores emotion models.
    """


def main() -> None:
    """Run the command line; user errors are one message without a traceback.

    Exit codes: 0 ok, 1 bug, 2 usage or recipe, 3 plugin, 4 data, 130 interrupted, by Ctrl-C or SIGTERM.
    """
    from repkit.runs.device import within_memory

    usual = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, RepkitWarning):
            _say("[bold yellow]warning:[/]", str(message))
        else:
            usual(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            with _ending_as_interrupting(), within_memory("repkit", _LOWER):
                app()
        except RepkitError as error:
            _say("[bold red]error:[/]", str(error))
            sys.exit(error.exit_code)
        except SystemExit as end:
            if end.code == 130:  # Ctrl-C before or after the work itself
                _say("[bold red]error:[/]", "interrupted; start the same command again to go on")
            raise


@contextmanager
def _ending_as_interrupting() -> Iterator[None]:
    """Take SIGTERM, with which batch systems end a job, for Ctrl-C: what is finished is kept and noted. The second one kills."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(kind: str, text: str) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    console.print(kind, end=" ")
    console.print(text, markup=False)
