"""A small stage one, made once through the command line."""

import pytest
from cli_helpers import PRETRAIN, RECIPE, ok, write_corpus


@pytest.fixture(scope="session")
def stage_one(tmp_path_factory):
    """Folder with toy/ (WAV files and metadata.csv), ae/, emb/ (vectors of it and of its two controls)."""
    folder = tmp_path_factory.mktemp("stage-one-cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPKIT_CACHE", str(folder / "cache"))
        write_corpus(folder / "toy")
        ok("pretrain-ae", "--corpus", f"toy={folder / 'toy'}", "--out", folder / "ae", *PRETRAIN)
        for encoder in ("", "untrained:", "statistics:"):
            ok(
                "embed", "--encoder", f"{encoder}{folder / 'ae'}", "--corpus", f"toy={folder / 'toy'}",
                "--out", folder / "emb",
            )  # fmt: skip
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder with a small recipe, tiny.toml."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder
