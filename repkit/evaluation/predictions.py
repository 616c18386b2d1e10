"""The prediction table: the only thing scores are made from.

Long form, one row per (checkpoint, part, view, id) of a job. See docs/run-format.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repkit.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

COLUMNS = (
    "condition",
    "seed",
    "fold",
    "part",
    "checkpoint",
    "view",
    "id",
    "label",
    "prediction",
    "probabilities",
)
PARTS = ("dev", "test")
CHECKPOINTS = ("selected", "last")
KEYS = ("condition", "seed", "fold", "part", "checkpoint", "view", "id")


def prediction_table(
    *,
    condition: str,
    seed: int,
    fold: str,
    part: str,
    checkpoint: str,
    view: str,
    classes: Sequence[str],
    ids: Sequence[str],
    labels: Sequence[str | None],
    probabilities: np.ndarray,
) -> pd.DataFrame:
    """Return the rows of one view, part and checkpoint of a job; join several with `pandas.concat`.

    Args:
        condition: name of the condition.
        seed: of the training.
        fold: name of the fold.
        part: ``"dev"`` or ``"test"``.
        checkpoint: ``"selected"`` or ``"last"``.
        view: name of the view.
        classes: C classes in the order of the columns of `probabilities`.
        ids: N utterance ids.
        labels: N classes, None where unlabelled.
        probabilities: (N, C) float; the prediction is the largest, the first one on a tie.

    Raises:
        DataError: shapes that do not fit or probabilities that are not finite.
    """
    import pandas as pd

    values = np.asarray(probabilities, dtype=np.float32)
    where = f"predictions of {condition}, seed {seed}, fold {fold}, {part}, {checkpoint}, {view}"
    if values.shape != (len(ids), len(classes)) or len(labels) != len(ids):
        raise DataError(
            f"{where}: probabilities {values.shape}, {len(ids)} ids, {len(labels)} labels; expected "
            f"({len(ids)}, {len(classes)}) and one label each; hand them over in one order"
        )
    if not np.isfinite(values).all():
        raise DataError(
            f"{where}: probabilities that are not finite, first for {ids[np.argmin(np.isfinite(values).all(1))]!r}; "
            "expected numbers; the training has diverged (lower the learning rate), or the model is at fault where its losses and "
            "weights are finite (mend it)"
        )
    winners = values.argmax(axis=1) if len(ids) else np.zeros(0, dtype=int)
    return pd.DataFrame(
        {
            "condition": condition,
            "seed": int(seed),
            "fold": fold,
            "part": part,
            "checkpoint": checkpoint,
            "view": view,
            "id": list(ids),
            "label": pd.Series(list(labels), dtype=object),
            "prediction": [classes[place] for place in winners],
            "probabilities": list(values),
        },
        columns=list(COLUMNS),
    )


def write_predictions(path: Path, table: pd.DataFrame, views: Mapping[str, Sequence[str]]) -> None:
    """Write the table of one job as parquet after checking it, through a temporary file.

    Args:
        path: ``predictions.parquet`` of the job.
        table: columns as in `COLUMNS`.
        views: classes of each view.

    Raises:
        DataError: the table breaks the schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from repkit.runs.atomic import atomic_write

    validate(table, views, str(path))
    arrow = pa.Table.from_pandas(table[list(COLUMNS)], schema=_schema(), preserve_index=False)
    with atomic_write(path) as temporary:
        pq.write_table(arrow, temporary, compression="zstd")


def validate(
    table: pd.DataFrame, views: Mapping[str, Sequence[str]], where: str, *, probabilities: bool = True
) -> None:
    """See that a table keeps the schema.

    Raises:
        DataError: columns, parts, checkpoints, views, classes or lengths that are not allowed, or a row twice.
    """
    _check_columns(list(table.columns), where, probabilities)
    for column, allowed in (("part", PARTS), ("checkpoint", CHECKPOINTS), ("view", tuple(views))):
        _check_values(set(table[column].unique()), allowed, f"{where}, column {column}")
    for view, rows in table.groupby("view", sort=True):
        classes = tuple(views[str(view)])
        _check_values(set(rows["prediction"].unique()), classes, f"{where}, view {view}, column prediction")
        _check_values(set(rows["label"].dropna().unique()), classes, f"{where}, view {view}, column label")
        if probabilities and not (rows["probabilities"].map(len) == len(classes)).all():
            raise DataError(
                f"{where}, view {view}: lists of {sorted(set(rows['probabilities'].map(len)))} probabilities; expected "
                f"{len(classes)}, one per class; write them in the class order of protocol.json"
            )
    twice = table.duplicated(subset=list(KEYS))
    if twice.any():
        row = table[twice].iloc[0]
        raise DataError(
            f"{where}: utterance {row['id']!r} is predicted twice ({row['part']}, {row['checkpoint']}, {row['view']}); "
            "expected one row each; delete the folder of this job and run again"
        )


def read_run(
    run_dir: Path, views: Mapping[str, Sequence[str]], *, probabilities: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Read the tables of all finished jobs of a run.

    Args:
        run_dir: the run directory.
        views: classes of each view (protocol.json).
        probabilities: read that column too.

    Returns:
        one table over all jobs in a fixed order, and the names ``condition/seed_s/fold`` of the finished jobs. A job is
        finished when its folder has both ``done.json`` and ``predictions.parquet`` and no temporary name.

    Raises:
        DataError: a table breaks the schema or names another job than its folder does.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    tables, jobs, paths = [], [], []
    for path in sorted(Path(run_dir).glob("jobs/*/seed_*/*/predictions.parquet")):
        # a job that is just being published, or was when its process died, stands beside under a temporary name
        if not (path.parent / "done.json").exists() or ".tmp." in path.parent.name:
            continue
        table = _read_arrow(path, probabilities)
        folder = path.parts[-4:-1]
        for column, expected in zip(("condition", "seed", "fold"), folder):
            for value in pc.unique(table[column]).to_pylist():
                named = f"seed_{value}" if column == "seed" else value
                if named != expected:
                    raise DataError(
                        f"{path}: rows of {column} {value!r}; expected only job {'/'.join(folder)}; the file was "
                        "moved: delete this job's folder and run again"
                    )
        tables.append(table)
        jobs.append("/".join(folder))
        paths.append(path)
    if not tables:
        return _schema(probabilities).empty_table().to_pandas(), []
    rows = pa.concat_tables(tables).to_pandas()
    try:
        validate(rows, views, str(run_dir), probabilities=probabilities)
    except DataError:
        for path, table in zip(paths, tables):
            validate(table.to_pandas(), views, str(path), probabilities=probabilities)
        raise
    return rows, jobs


def _read_arrow(path: Path, probabilities: bool) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(file.schema_arrow.names, str(path))
            schema = _schema(probabilities)
            return file.read(columns=schema.names).select(schema.names).cast(schema)
    except (OSError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"{path}: {error}; expected a readable parquet file; delete the folder of this job and run again"
        ) from error


def _schema(probabilities: bool = True) -> pa.Schema:
    import pyarrow as pa

    kinds = {"seed": pa.int64(), "probabilities": pa.list_(pa.float32())}
    names = [name for name in COLUMNS if probabilities or name != "probabilities"]
    return pa.schema([(name, kinds.get(name, pa.string())) for name in names])


def _check_columns(names: Sequence[str], where: str, probabilities: bool = True) -> None:
    expected = [name for name in COLUMNS if probabilities or name != "probabilities"]
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in expected if name not in names]
    if unknown or missing:
        raise DataError(
            f"{where}: {f'column {unknown[0]!r} is unknown' if unknown else f'column {missing[0]!r} is missing'}; "
            f"expected the columns {', '.join(COLUMNS)}; write it with repkit.evaluation.predictions.write_predictions",
            [f"unknown column {name!r}" for name in unknown] + [f"missing column {name!r}" for name in missing],
        )


def _check_values(values: set[object], allowed: Sequence[str], where: str) -> None:
    strange = sorted(str(value) for value in values if value not in allowed)
    if strange:
        raise DataError(
            f"{where}: {strange[0]!r}; expected one of {', '.join(allowed)}{did_you_mean(strange[0], allowed)}; "
            "use the classes and names of the run's protocol.json"
        )
