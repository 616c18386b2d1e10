"""The recipes of this distribution, by entry point."""

from pathlib import Path

_FOLDER = Path(__file__).parent

ADD_CORPUS = _FOLDER / "add_corpus.toml"
ADAPTERS = _FOLDER / "adapters.toml"
ADAPTERS_ATTENTIVE = _FOLDER / "adapters_attentive.toml"
GERCZUK2021 = _FOLDER / "gerczuk2021.toml"
TRANSFER = _FOLDER / "transfer.toml"
