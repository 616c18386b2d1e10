"""docs/reference/corpora.md: the corpora repkit knows by name, from their specifications."""

from __future__ import annotations

from typing import Any

from generators.recipes import field_rows, own_components
from generators.text import HEADER, first_paragraph, table


def corpora_page() -> str:
    """Return docs/reference/corpora.md."""
    from repkit.audio.emotions import ALIASES, EMOTIONS
    from repkit.audio.named_specs import SPECS
    from repkit.audio.open import corpus_names
    from repkit.audio.presets import PRESETS

    named = [
        (f"`{s.name}`", s.title, s.language or "several", _counts(s), s.licence, s.home)
        for s in sorted(SPECS.values(), key=lambda s: s.name)
    ]
    files = [
        (
            f"`{s.name}`",
            f"`{s.example}`",
            ", ".join(f"`{v}`" for v in s.variants) if len(s.variants) > 1 else "",
            s.source,
        )
        for s in sorted(SPECS.values(), key=lambda s: s.name)
    ]
    unlabelled = [
        (f"`{p.name}`", f"`{p.id}`", f"`{p.default}`", f"`{p.layout}`", p.licence, p.home) for p in PRESETS.values()
    ]
    splits = [
        (f"`{p.name}`", f"`{split}`", f"`{config}` / `{hub}`", str(rows or ""))
        for p in PRESETS.values()
        for split, (config, hub, rows) in p.splits.items()
    ]
    synthetic = [(f"`{name}`", text) for name, text, kind in corpus_names() if kind == "synthetic"]
    words = [(f"`{name}`", ", ".join(ALIASES.get(name, ()))) for name in EMOTIONS]
    parts = [
        HEADER,
        "# Corpora: the lists",
        "How corpora are read is told in [corpora](../corpora.md).",
        "## Emotional corpora by name",
        "`--corpus NAME=PATH`, where PATH is the official download as unpacked, or a folder with a `metadata.csv`. "
        "Counts are the published ones; a mismatch is a warning.",
        table(("name", "title", "language", "published counts", "licence", "home"), named),
        "### What their files look like",
        table(("name", "a file", "variants, the first is the default", "where the rule comes from"), files),
        "## Unlabelled speech",
        table(("name", "hub id", "default split", "OpenSLR layout", "licence", "home"), unlabelled),
        table(("name", "split", "hub configuration / split", "rows"), splits),
        "## Synthetic voices",
        table(("name", "what"), synthetic),
        "## The vocabulary of emotions",
        "Every label must be one of these names or aliases; case, accents, hyphens and underscores do not matter.",
        table(("emotion", "aliases"), words),
    ]
    for title, name in (("a folder", "folder"), ("a hub dataset or parquet", "hub"), ("synthetic voices", "synthetic")):
        component = dict(own_components("repkit.corpora"))[name]
        parts += [f"## Settings of {title}", first_paragraph(component)]
        parts.append(table(("key", "type", "default", "meaning"), field_rows(component.Config)))
    return "\n\n".join(parts) + "\n"


def _counts(spec: Any) -> str:
    lines = []
    for variant in spec.variants:
        counts = spec.expected.get(variant, {})
        text = ", ".join(f"{counts[what]} {what}" for what in ("utterances", "speakers") if counts.get(what))
        lines.append(f"{variant}: {text}" if len(spec.variants) > 1 and text else text)
    return "<br>".join(line for line in lines if line) or "none"
