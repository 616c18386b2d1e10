"""Parquet files with exactly the schema of LibriSpeech on the hub, of generated sounds."""

import io

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

N = 12
SPEAKERS = [103 + i // 4 for i in range(N)]


def sound(i: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * (300 + 25 * i) * np.arange(3200 + 160 * i) / 16000)).astype("float32")


def flac(i: int) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, sound(i), 16000, format="FLAC")
    return stream.getvalue()


def rows(start, stop, **more):
    ids = [f"{SPEAKERS[i]}-1240-{i:04d}" for i in range(start, stop)]
    return {
        "file": [f"/x/{name}.flac" for name in ids],
        "audio": [{"bytes": flac(i), "path": f"{name}.flac"} for i, name in zip(range(start, stop), ids)],
        "text": [f"TEXT {i}" for i in range(start, stop)],
        "speaker_id": SPEAKERS[start:stop],
        "chapter_id": [1240] * (stop - start),
        "id": ids,
        **more,
    }


FEATURES = datasets.Features(
    {
        "file": datasets.Value("string"),
        "audio": datasets.Audio(sampling_rate=16000),
        "text": datasets.Value("string"),
        "speaker_id": datasets.Value("int64"),
        "chapter_id": datasets.Value("int64"),
        "id": datasets.Value("string"),
    }
)


def write(path, start=0, stop=N, group=3, features=FEATURES, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(rows(start, stop, **more), schema=features.arrow_schema)
    pq.write_table(table, path, row_group_size=group)
    return path
