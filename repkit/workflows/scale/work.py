"""What one cell of ``repkit scale`` takes: train an encoder, encode the labelled corpora; and the controls of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from repkit.api import Corpus
from repkit.errors import RepkitError
from repkit.runs.directory import canonical_hash
from repkit.runs.worker_start import preload
from repkit.stage_one.reporter import Progress
from repkit.stage_one.settings import PretrainConfig
from repkit.store import open_store
from repkit.workflows.embed import embed
from repkit.workflows.made import fingerprints_of, is_embedded
from repkit.workflows.pretrain_ae import pretrain_ae
from repkit.workflows.scale.cells import Cell, Request, curve_of

preload(__name__, "torch._dynamo")  # an optimiser imports the latter at its first step

_SHAPE = ("encoder", "readout", "layer", "layers", "level", "architecture", "frontend")
"""Keys of a provenance that two encoders with one untrained control share."""


@dataclass(frozen=True)
class CellContext:
    """What all cells share; goes to other processes and machines.

    Attributes:
        run: folder of the trainings, absolute; every worker must see it.
        embeddings: folder of the stores, absolute.
        cache: folder of the frames, absolute.
        configs: settings of each training.
        readouts: options of `embed` by curve.
        heard: corpora of stage one.
        corpora: labelled corpora.
        on_bad_audio: stop or skip.
        progress: of the trainings.
    """

    run: Path
    embeddings: Path
    cache: Path
    configs: Mapping[Cell, PretrainConfig]
    readouts: Mapping[str, Mapping[str, Any]]
    heard: tuple[Corpus, ...]
    corpora: tuple[Corpus, ...]
    on_bad_audio: Literal["stop", "skip"]
    progress: Progress


def train_cell(context: CellContext, cell: Cell, on_epoch: Callable[[int], None]) -> dict[str, Any]:
    """Train the encoder of a cell and encode the labelled corpora; whatever is there already is not made again.

    Returns:
        ``results`` of the training and ``store``, the name of the folder of its vectors; or, where that failed, ``why`` and
        ``exit_code``: one cell's failure must not lose the others.
    """
    folder = context.run / cell.name
    try:
        results = pretrain_ae(
            list(context.heard),
            folder,
            context.configs[cell],
            cache=context.cache,
            on_bad_audio=context.on_bad_audio,
            progress=context.progress,
            on_epoch=on_epoch,
        )
        stores = embed(
            str(folder),
            list(context.corpora),
            context.embeddings,
            on_bad_audio=context.on_bad_audio,
            **context.readouts[cell.curve],
        )
    except Exception as error:  # noqa: BLE001 - said of the cell, whatever it is
        known = isinstance(error, RepkitError)
        return {
            "why": str(error) if known else f"{type(error).__name__}: {error}",
            "exit_code": getattr(error, "exit_code", 1),
        }
    return {"results": results, "store": next(iter(stores.values())).path.parent.name}


def control_key(folder: Path, corpus: str) -> str:
    """Return what the stores of all encoders with one untrained control share: architecture, initialisation, readout, frontend."""
    spec = open_store(folder / corpus).spec
    shape = {key: spec.source.get(key) for key in _SHAPE}
    architecture = shape["architecture"]
    if isinstance(architecture, Mapping):
        shape["architecture"] = {key: value for key, value in architecture.items() if key != "dropout"}
    return canonical_hash([shape, spec.dim])


def make_controls(
    request: Request,
    stores: Mapping[Cell, str],
    known: Sequence[Mapping[str, Any]],
    progress: Callable[[str, int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Encode the labelled corpora by the untrained encoders of all seeds, once for all curves of one architecture.

    Args:
        request: what is asked for.
        stores: folder of the vectors of every finished cell.
        known: controls of earlier calls, which are kept.
        progress: as of `embed`.

    Returns:
        of each: its ``name``, ``store``, and the ``key``, ``curve``, ``seed`` and ``run`` that it was made from.
    """
    found: list[dict[str, Any]] = []
    first, fingerprints = next(iter(request.corpora)), fingerprints_of(request.corpora)
    before = {(one["key"], one["seed"]): one for one in known}
    for cell, store in sorted(stores.items(), key=lambda item: (item[0].hours, item[0].seed)):
        key = control_key(request.embeddings / store, first)
        for seed in request.plan.seeds:
            if any((one["key"], one["seed"]) == (key, seed) for one in found):
                continue
            one = dict(before.get((key, seed)) or _control(key, seed, cell, [*found, *known]))
            if not one["store"] or not is_embedded(request.embeddings / one["store"], fingerprints):
                made = embed(
                    f"untrained:{request.encoders / one['run']}",
                    list(request.corpora.values()),
                    request.embeddings,
                    on_bad_audio=request.on_bad_audio,
                    seed=seed,
                    workers=request.workers,
                    executor=request.executor,
                    progress=progress,
                    **request.plan.readout_of(curve_of(request.plan, cell.curve)),
                )
                one["store"] = next(iter(made.values())).path.parent.name
            found.append(one)
    return found


def _control(key: str, seed: int, cell: Cell, known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a control that is still to be made.

    All seeds come from one run and, by `compare`'s rule, have names of one encoder; which no control of another key has, such
    as that of an earlier readout of the curve.
    """
    names = {one["name"].rpartition("-s")[0]: one for one in known}
    name, same = next(((n, one) for n, one in names.items() if one["key"] == key), ("", None))
    if same is None:
        name = f"untrained-{cell.curve}"
        name += f"-{key[:8]}" if name in names else ""
        same = {"curve": cell.curve, "run": cell.name}
    return {"name": f"{name}-s{seed}", "store": "", "key": key, "seed": seed, **{k: same[k] for k in ("curve", "run")}}


__all__ = ["CellContext", "control_key", "make_controls", "train_cell"]
