"""Name the distribution, and the line of its code, where a component fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

from repkit.errors import PluginError, RepkitError, RepkitWarning
from repkit.plugins.discover import blame, find


@contextmanager
def blaming(group: str, name: str, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what a component raises into an error that names its distribution.

    Args:
        group: entry-point group.
        name: of the component.
        passing: what is not its fault, besides an exhausted memory (`is_out_of_memory`) and repkit's own errors, which tell a
            user what to do already.

    Raises:
        PluginError: in place of any other exception.
    """
    unblamed: tuple[type[Exception], ...] = (RepkitError, RepkitWarning, *passing)
    try:
        yield
    except unblamed:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise PluginError(
            f"{blame(group, name)}: {type(error).__name__}{_place(group, name, error)}: {error}; a component that keeps the "
            f"contract of repkit.api was expected; run `repkit plugins check {name}`, mend it or choose another"
        ) from error


@contextmanager
def blaming_the_one(
    components: Sequence[tuple[str, str]], passing: tuple[type[Exception], ...] = (), *, suspecting: bool = False
) -> Iterator[None]:
    """Do as `blaming` for work of several components and repkit's own: blamed is the stranger whose code an exception went through.

    Args:
        components: group and name of each.
        passing: what is nobody's fault.
        suspecting: whether strangers are named also where the exception went through none of their code: what they have
            returned may have made repkit's own fail. Then errors of the system are nobody's fault either.

    Raises:
        PluginError: in place of the exception; one that went through no stranger's code is left as it is, unless `suspecting`.
    """
    try:
        yield
    except Exception as error:
        strangers = [pair for pair in components if not blame(*pair).startswith("plugin repkit ")]
        for group, name in strangers:
            if _place(group, name, error):
                with blaming(group, name, passing):
                    raise
        nobodys = (RepkitError, RepkitWarning, OSError, *passing)
        if not suspecting or not strangers or isinstance(error, nobodys) or is_out_of_memory(error):
            raise
        who = " or ".join(dict.fromkeys(blame(*pair) for pair in strangers))
        checks = " and ".join(f"`repkit plugins check {name}`" for name in dict.fromkeys(name for _, name in strangers))
        raise PluginError(
            f"{who}: {type(error).__name__}: {error}; it was raised by work on what the component had returned; one that keeps "
            f"the contract of repkit.api was expected; run {checks}, mend it or choose another"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that memory is exhausted, of this machine or of its GPU; imports no torch."""
    torch = sys.modules.get("torch")  # who has not imported it cannot have raised its error
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    # torch's error for this machine's memory has no class of its own
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


def _place(group: str, name: str, error: BaseException) -> str:
    try:
        return place_in(find(group, name).value.partition(":")[0], error)
    except PluginError:
        return ""


def place_in(module: str, error: BaseException) -> str:
    """Return the deepest line of a component's own code that an exception went through, as " in corpus.py, line 18".

    Args:
        module: of the component; its package counts as its code, of repkit itself only the room it lies in.
        error: raised by or below it.

    Returns:
        an empty text where the exception went through none of it.
    """
    package = module.partition(".")[0]
    package = module.rpartition(".")[0] if package == "repkit" else package
    own = [
        f" in {Path(frame.f_code.co_filename).name}, line {line}"
        for frame, line in walk_tb(error.__traceback__)
        if package and f"{frame.f_globals.get('__name__', '')}.".startswith(f"{package}.")
    ]
    return own[-1] if own else ""


__all__ = ["blaming", "blaming_the_one", "is_out_of_memory", "place_in"]
