"""Shared fixtures. One thread per process: two OpenMP threads on busy cores cost up to 14x (docs/decisions/0006)."""

import os
import tempfile
from pathlib import Path

import pytest

# set before anything loads numpy or torch, which size their thread pools then
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    """Keep what fixtures of a session cache away from the user's own cache."""
    config.cache_folder = tempfile.TemporaryDirectory(prefix="repkit-test-cache-")
    os.environ["REPKIT_CACHE"] = config.cache_folder.name


def pytest_unconfigure(config):
    config.cache_folder.cleanup()


def pytest_collection_modifyitems(items):
    """Long files first: two workers take one file after the other (`make test`) and should end together."""
    long = ("integration", "realdata", "contracts")
    rank = {str(ROOT / "tests" / name): n for n, name in enumerate(long)}
    items.sort(key=lambda item: rank.get(str(item.path.parent), len(long)))


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with the real corpora (emodb, emovo, ravdess, urdu, librispeech), never part of the repository."""
    given = os.environ.get("REPKIT_REAL_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not (folder / "emodb" / "metadata.csv").exists():
        pytest.skip("no real corpora here; set REPKIT_REAL_DATA to their folder")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REPKIT_CACHE", str(tmp_path / "cache"))
