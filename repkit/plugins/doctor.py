"""Look at everything that is installed for repkit and say what is wrong with it, and with whom."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from typing import Any

from repkit.api import API_VERSION
from repkit.plugins.discover import GROUPS, Component, claimed_twice, components, fits_the_rule

SHOWN = (
    "repkit", "torch", "torchaudio", "numpy", "scipy", "pandas", "pyarrow", "h5py", "soundfile", "librosa", "datasets",
    "transformers", "accelerate", "safetensors", "scikit-learn", "pydantic", "typer",
)  # fmt: skip
"""Distributions whose versions are worth reading."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: with whom, what, and what to do."""

    who: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.who}: {self.what}; {self.do}"


def examine(timeout_s: float = 300.0) -> list[Finding]:
    """Return everything that is wrong with the installed components and their distributions.

    Every component is imported in another process, so that one which crashes or never ends is only blamed for it.

    Args:
        timeout_s: longest time that a process may take for all imports that are left.
    """
    found = components()
    return [
        *_of_imports(found, timeout_s),
        *_of_names(),
        *_of_groups(),
        *_of_the_filter(),
        *_of_requirements(sorted({component.distribution for component in found} | {"repkit"})),
    ]


def versions() -> dict[str, str]:
    """Return the versions of Python, the system and what repkit stands on."""
    found = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    found["api"] = f"{API_VERSION[0]}.{API_VERSION[1]}"
    for name in SHOWN:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _of_imports(found: Sequence[Component], timeout_s: float) -> Iterator[Finding]:
    for component, told in zip(found, probe(found, timeout_s), strict=True):
        if told["problem"] is not None:
            yield Finding(component.blame, f"{component.value} {told['problem']}", "mend or uninstall it")
            continue
        if component.group == "repkit.recipes":
            continue
        if told["settings"]:
            yield Finding(component.blame, *told["settings"])
        if told["version"]:
            yield Finding(component.blame, *told["version"])


def probe(found: Sequence[Component], timeout_s: float) -> list[Mapping[str, Any]]:
    """Import components in other processes; a new one goes on after an import that ended the last."""
    answers: list[Mapping[str, Any]] = []
    while len(answers) < len(found):
        rest = [{"group": c.group, "name": c.name, "value": c.value} for c in found[len(answers) :]]
        told, end = _run_probe(rest, timeout_s)
        started = {line["number"] for line in told}
        finished = [line for line in told if "problem" in line]
        answers += finished
        if len(finished) < len(rest):
            blamed = "cannot be looked at" if len(finished) not in started else "its import"
            answers.append({"problem": f"{blamed} {end}"})
    return answers


def _run_probe(points: list[dict[str, str]], timeout_s: float) -> tuple[list[dict[str, Any]], str]:
    """Return the lines a probe has written and how it ended."""
    path = os.pathsep.join(place for place in sys.path if place)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "repkit.plugins.probe"],
            input=json.dumps(points),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
        out, end = done.stdout, f"ended the process (exit code {done.returncode})"
    except subprocess.TimeoutExpired as error:
        written = error.stdout or b""
        out = written.decode() if isinstance(written, bytes) else written
        end = f"took longer than {timeout_s:g} s"
    return [json.loads(line) for line in out.splitlines() if line.endswith("}")], end


def _of_names() -> Iterator[Finding]:
    for component in components():
        if not fits_the_rule(component.name):
            yield Finding(
                component.blame,
                f"{component.name!r} is no name of the rule: small letters, digits and underscores, a letter first",
                "give it another one in its pyproject.toml and install it again",
            )
    for (group, name), owners in claimed_twice().items():
        who = " and ".join(component.origin for component in owners)
        yield Finding(
            f"{group}: {name}",
            f"claimed by {who}",
            f"uninstall one, or write '{owners[0].distribution}:{name}' in recipes to choose",
        )


def _of_groups() -> Iterator[Finding]:
    """Find entry points in groups that look like repkit's and are none."""
    told: set[tuple[str, str, str]] = set()
    for distribution in distributions():
        for point in distribution.entry_points:
            plain = point.group.lower().replace("-", ".").replace("_", ".")
            if point.group in GROUPS or not plain.startswith("repkit"):
                continue
            name = distribution.metadata["Name"] or "unknown"
            close = get_close_matches(plain, GROUPS, n=1, cutoff=0.6)
            hint = f"write {close[0]!r}" if close else f"repkit reads {', '.join(GROUPS)}"
            if (name, point.group, point.name) not in told:
                told.add((name, point.group, point.name))
                yield Finding(
                    f"plugin {name} {distribution.version}",
                    f"announces {point.name!r} in the group {point.group!r}, which repkit does not read",
                    f"{hint} in its pyproject.toml and install it again",
                )


def _of_the_filter() -> Iterator[Finding]:
    allowed = os.environ.get("REPKIT_PLUGINS")
    if allowed is None:
        return
    installed = {(distribution.metadata["Name"] or "").lower() for distribution in distributions()}
    for name in (part.strip() for part in allowed.split(",")):
        if name and name != "none" and name.lower() not in installed:
            yield Finding(
                "REPKIT_PLUGINS", f"names {name!r}, which is not installed", "correct the name, or unset the variable"
            )


def _of_requirements(names: Sequence[str]) -> Iterator[Finding]:
    """Find distributions whose stated requirements the installed versions do not meet."""
    from packaging.requirements import InvalidRequirement, Requirement

    for name in names:
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        for line in lines:
            try:
                need = Requirement(line)
            except InvalidRequirement:
                continue
            if need.marker is not None and not need.marker.evaluate({"extra": ""}):
                continue
            # on the package index the name repkit is another project's
            do = "install it from a clone" if need.name == "repkit" else f"pip install '{need}'"
            try:
                got = version(need.name)
            except PackageNotFoundError:
                yield Finding(name, f"needs {need}, which is not installed", do)
                continue
            if not need.specifier.contains(got, prereleases=True):
                yield Finding(name, f"needs {need}; {got} is installed", do)
