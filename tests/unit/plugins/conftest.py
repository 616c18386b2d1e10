"""Distributions that exist on disk: a module and the metadata that pip would write beside it."""

import sys
import textwrap
import uuid

import pytest


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Return a function that installs a distribution into a folder on the path of this process and its children."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    modules = []

    def install(name, points, code="", version="1.2", requires=()):
        """Write module MODULE (what ``{module}`` in `points` and `code` stands for) and its metadata."""
        module = f"{name.replace('-', '_')}_{uuid.uuid4().hex[:8]}"
        modules.append(module)
        (site / f"{module}.py").write_text(textwrap.dedent(code).replace("{module}", module), encoding="utf-8")
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires)]) + "\n")
        text = ""
        for group, entries in points.items():
            text += f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items()) + "\n"
        (info / "entry_points.txt").write_text(text.replace("{module}", module))
        return module

    yield install
    for module in modules:
        sys.modules.pop(module, None)
