"""Small sounds and folders for the tests of the audio room."""

from pathlib import Path

import numpy as np
import pytest
import soundfile


def tone(seconds: float = 0.3, rate: int = 16000, hz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype("float32")


@pytest.fixture
def write_sound():
    def write(path: Path, seconds: float = 0.3, hz: float = 440.0, rate: int = 16000) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        form = "NIST" if path.suffix.lower() == ".sph" else None
        soundfile.write(path, tone(seconds, rate, hz), rate, format=form)
        return path

    return write


@pytest.fixture
def make_folder(tmp_path, write_sound):
    """Write a folder with a CSV table; rows are lists of cells, each file is a short tone of its own pitch."""

    def make(header: str, rows: list[str], files: list[str], name: str = "metadata.csv") -> Path:
        root = tmp_path / "corpus"
        for number, file in enumerate(files):
            write_sound(root / file, hz=300 + 40 * number)
        (root / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return root

    return make
