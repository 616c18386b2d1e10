"""The register of checks and what runs them.

A check is a plain function of a case (a component with all that is needed to try it). The first paragraph of its
docstring is the rule, the second, ``Prevents: ...``, the harm. It raises `Broken` with what was got and what to do, or
returns. Which checks apply is decided by what a component declares (its *traits*), never by its name.
Source: own design, after the estimator checks of scikit-learn.
"""

from __future__ import annotations

import importlib
import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from repkit.api import Config
from repkit.errors import RepkitError, RepkitWarning, UsageError, did_you_mean
from repkit.plugins import GROUPS, build_config, find, load
from repkit.plugins.blaming import place_in

Status = Literal["passed", "failed", "not applicable", "failed as expected"]

_PAGES = {group: [f"repkit.testing.{group.partition('.')[2]}"] for group in GROUPS}
_PAGES["repkit.models"] += ["repkit.testing.model_parts", "repkit.testing.batched"]
_PAGES["repkit.objectives"].append("repkit.testing.batched")
"""The modules that hold a group's checks; imported when they are asked for."""


class Broken(Exception):
    """A rule that is not kept.

    Args:
        got: what was seen.
        do: what to do about it.
    """

    def __init__(self, got: str, do: str) -> None:
        self.got, self.do = got, do
        super().__init__(f"{got}; {do}")


class NotApplicable(Exception):
    """Nothing here that the rule could be about; the message says why."""


class Case:
    """A component under test. Each group has its own kind, which makes what the group's checks need.

    Args:
        component: the class (for recipes a path).
        settings: what its Config is built from, besides the defaults.
        name: what to call it in messages.
    """

    group: str
    takes_task = False
    """Whether it is built as ``Class(config, task)``."""

    def __init__(self, component: Any, settings: Mapping[str, Any], name: str) -> None:
        self.component, self.settings, self.name = component, dict(settings), name

    @property
    def traits(self) -> frozenset[str]:
        """What the component declares; checks are selected by it."""
        return frozenset()

    @cached_property
    def config(self) -> Any:
        """The component's settings, validated as a recipe's table is."""
        return build_config(self.component, self.settings, self.name)

    def make(self) -> Any:
        """Return a fresh component."""
        return self.component(self.config)


@dataclass(frozen=True, slots=True)
class Check:
    """One rule.

    Attributes:
        group: entry-point group.
        name: of the function.
        function: tries a case; raises `Broken`.
        needs: traits without which it does not apply.
        unless: traits with which it does not apply.
        first: the others are not tried when this one fails.
    """

    group: str
    name: str
    function: Callable[[Any], None]
    needs: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    first: bool = False

    @property
    def rule(self) -> str:
        """The first paragraph of the docstring, on one line."""
        return _paragraph(self.function, 0)

    @property
    def harm(self) -> str:
        """What the rule prevents."""
        return _paragraph(self.function, 1).removeprefix("Prevents: ")

    def why_not(self, traits: frozenset[str]) -> str | None:
        """Return why the check does not apply to a component of these traits, or None when it does."""
        missing = [trait for trait in self.needs if trait not in traits]
        if missing:
            return f"the component does not declare {' and '.join(map(repr, missing))}"
        present = [trait for trait in self.unless if trait in traits]
        return f"the component declares {' and '.join(map(repr, present))}" if present else None


def _paragraph(function: Callable[..., Any], number: int) -> str:
    parts = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return " ".join(parts[number].split()) if number < len(parts) else ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found.

    Attributes:
        check: the rule.
        status: how it went.
        message: why it failed or does not apply; empty when it passed.
        got: of a failure, what was seen.
        do: of a failure, what to do about it.
    """

    check: Check
    status: Status
    message: str = ""
    got: str = ""
    do: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.status != "failed"


@dataclass(frozen=True, slots=True)
class Report:
    """What all checks of a group found about one component."""

    group: str
    name: str
    results: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(result.ok for result in self.results)

    @property
    def failed(self) -> tuple[Result, ...]:
        """The results that failed."""
        return tuple(result for result in self.results if not result.ok)

    def of(self, check: str) -> Result:
        """Return the result of a check.

        Raises:
            UsageError: no such check.
        """
        for result in self.results:
            if result.check.name == check:
                return result
        raise _unknown_check(check, self.group)

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.group}): {len(self.failed)} of {len(self.results)} checks failed"]
        return "\n".join([*lines, *(result.message for result in self.failed)])


_REGISTER: dict[str, dict[str, Check]] = {}
_CASES: dict[str, type[Case]] = {}


def check(
    *groups: str, needs: Sequence[str] = (), unless: Sequence[str] = (), first: bool = False
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function as a check of some groups."""

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        for group in groups:
            own = Check(group, function.__name__, function, tuple(needs), tuple(unless), first)
            _REGISTER.setdefault(group, {})[own.name] = own
        return function

    return register


def case(group: str) -> Callable[[type[Case]], type[Case]]:
    """Register the kind of case that a group's checks work on."""

    def register(kind: type[Case]) -> type[Case]:
        kind.group = group
        _CASES[group] = kind
        return kind

    return register


def checks(group: str) -> tuple[Check, ...]:
    """Return the checks of a group, those first that others depend on.

    Raises:
        UsageError: no such group.
    """
    if group not in _PAGES:
        raise UsageError(
            f"conformance kit: no group {group!r}{did_you_mean(group, GROUPS)}; expected one of {', '.join(GROUPS)}"
        )
    for page in _PAGES[group]:
        importlib.import_module(page)
    return tuple(sorted(_REGISTER[group].values(), key=lambda one: not one.first))


def make_case(group: str, component: Any, settings: Mapping[str, Any] | None = None, **circumstances: Any) -> Case:
    """Return what the checks of a group are tried on.

    Args:
        group: entry-point group.
        component: a class, the name of an installed component, or for recipes a name or a path.
        settings: of its Config; the defaults when left out.
        **circumstances: what the kit shall try the component in, different for each group (see its case).

    Raises:
        UsageError: no such group, or a circumstance that the group does not know.
        PluginError: no such component, or it cannot be imported.
    """
    checks(group)
    kind = _CASES[group]
    name = component if isinstance(component, str) else getattr(component, "__name__", str(component))
    if group != "repkit.recipes" and isinstance(component, str):
        name, component = find(group, component).name, load(group, component)
    known = inspect.signature(kind.__init__).parameters
    for circumstance in circumstances:
        if circumstance not in known:
            free = [key for key in known if key not in ("self", "component", "settings", "name")]
            raise UsageError(
                f"conformance kit: {group} has no circumstance {circumstance!r}{did_you_mean(circumstance, free)}; "
                f"expected {', '.join(free) or 'none'}"
            )
    return kind(component, settings or {}, name, **circumstances)


def run_check(one: Check, subject: Case) -> Result:
    """Try one check on a case; whatever the component raises is a failure of the check, never an error of the kit."""
    try:
        reason = one.why_not(subject.traits)
        if reason is not None:
            return Result(one, "not applicable", reason)
        with _own_randomness(), warnings.catch_warnings():
            warnings.simplefilter("ignore", RepkitWarning)
            one.function(subject)
    except NotApplicable as reason_:
        return Result(one, "not applicable", str(reason_))
    except Broken as broken:
        return _failed(subject, one, broken.got, broken.do)
    except RepkitError as error:
        do = "mend it, or give settings under which the component works (settings=, --set KEY=VALUE)"
        got = ": ".join([type(error).__name__, error.message, *(["; ".join(error.problems)] if error.problems else [])])
        return _failed(subject, one, got, do)
    except Exception as error:  # noqa: BLE001 - a component may raise anything
        do = "mend the component, or raise a repkit.api error that says what to do"
        where = place_in(getattr(subject.component, "__module__", ""), error)
        return _failed(subject, one, f"{type(error).__name__}{where}: {error}", do)
    return Result(one, "passed")


def _failed(subject: Case, one: Check, got: str, do: str) -> Result:
    message = f"{subject.name}: {one.name}: {one.rule} Got: {got}. To do: {do}."
    return Result(one, "failed", message, got, do)


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Seed all generators and give the surroundings theirs back, so that no check depends on what ran before it."""
    before = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    torch_before = torch.random.get_rng_state() if torch is not None else None
    random.seed(0)
    np.random.seed(0)
    if torch is not None:
        torch.manual_seed(0)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        if torch is not None:
            torch.random.set_rng_state(torch_before)


def check_component(
    group: str,
    component: Any,
    *,
    settings: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    **circumstances: Any,
) -> Report:
    """Try every check of a group on one component.

    Args:
        group: entry-point group, for example ``"repkit.models"``.
        component: a class, the name of an installed component, or for recipes a name or a path.
        settings: of its Config; the defaults when left out.
        expected_failures: check to the reason why this component may fail it. One that passes all the same is a
            failure, so that no exception outlives its reason.
        **circumstances: see the group's case, for example ``n_bands`` for models or ``utterances`` for protocols.

    Raises:
        UsageError: an unknown group, circumstance or check.
        PluginError: an installed component that is unknown or cannot be imported.
    """
    subject = make_case(group, component, settings, **circumstances)
    results: list[Result] = []
    expected = known_checks(group, expected_failures)
    for one in checks(group):
        stopped = next((r for r in results if r.check.first and r.status == "failed"), None)
        if stopped is not None and not one.first:
            results.append(Result(one, "not applicable", f"not tried, because {stopped.check.name} failed"))
        else:
            results.append(judged(run_check(one, subject), expected))
    return Report(group, subject.name, tuple(results))


def known_checks(group: str, expected_failures: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the failures that are expected, after seeing that each names a check of the group."""
    for name in expected_failures or {}:
        if name not in {one.name for one in checks(group)}:
            raise _unknown_check(name, group)
    return expected_failures or {}


def judged(result: Result, expected: Mapping[str, str]) -> Result:
    """Return the result in the light of the failures that are expected."""
    reason = expected.get(result.check.name)
    if reason is None:
        return result
    if result.status == "failed":
        return Result(result.check, "failed as expected", reason)
    got, do = f"was expected to fail ({reason}) and does not", "drop the exception"
    return Result(result.check, "failed", f"{result.check.name}: {got}; {do}", got, do)


def _unknown_check(name: str, group: str) -> UsageError:
    known = [one.name for one in checks(group)]
    return UsageError(
        f"conformance kit: no check {name!r} in {group}{did_you_mean(name, known)}; expected one of {', '.join(known)}"
    )


def settings_class(component: Any) -> Any:
    """Return a component's Config, or None when it has none that is a class of settings."""
    found = getattr(component, "Config", None)
    return found if isinstance(found, type) and issubclass(found, Config) else None
