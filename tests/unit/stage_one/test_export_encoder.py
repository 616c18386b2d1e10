"""An encoder that is exported again: there at every moment, and nothing of killed processes stays."""

import shutil

from repkit.stage_one import export


class Model:
    def __init__(self, weights):
        self.weights = weights

    def save_pretrained(self, folder):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(self.weights)


def test_the_earlier_encoder_is_there_until_the_new_one_is_whole(tmp_path, monkeypatch):
    folder = tmp_path / "encoder-best"
    first = export.export_encoder(Model(b"1"), folder)
    left = tmp_path / "encoder.tmp.12"  # by a process that was killed in it, under a name of earlier versions
    left.mkdir()
    (left / "config.json").write_text("{")
    there, rmtree = [], shutil.rmtree

    def delete(path, **how):
        there.append((folder / "model.safetensors").exists())
        rmtree(path, **how)

    monkeypatch.setattr(export.shutil, "rmtree", delete)
    second = export.export_encoder(Model(b"2"), folder)
    assert there
    assert all(there)
    assert [path.name for path in tmp_path.iterdir()] == ["encoder-best"]
    assert (folder / "model.safetensors").read_bytes() == b"2"
    assert first != second
