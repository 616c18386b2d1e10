"""docs/results/librispeech-small.csv makes, of LibriSpeech as downloaded, the folder that the results were made with."""

import csv
import hashlib
import re

import pytest

from repkit.audio.export import export_corpus
from repkit.audio.open import open_corpus


@pytest.fixture(scope="module")
def rows(repo_root):
    with (repo_root / "docs/results/librispeech-small.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def page(repo_root):
    return (repo_root / "docs/results/librispeech_small.md").read_text(encoding="utf-8")


def counted(rows):
    """Return what the page's table says of some utterances, each cell as it is written there."""
    genders = list({row["speaker_id"]: row["gender"] for row in rows}.values())
    samples = sum(int(row["samples"]) for row in rows)
    return {
        "utterances": str(len(rows)), "speakers": str(len(genders)),
        "women, men": f"{genders.count('female')}, {genders.count('male')}",
        "samples at 16 kHz": f"{samples:,}".replace(",", " "), "hours": f"{samples / 16000 / 3600:.3f}",
    }  # fmt: skip


def test_the_page_counts_what_the_table_names(rows, page):
    parts = [[row for row in rows if row["file_name"].startswith(f"{p}/")] for p in ("train-clean-100", "test-other")]
    columns = [counted(some) for some in (*parts, rows)]
    for what in columns[0]:
        assert f"| {what} | {' | '.join(column[what] for column in columns)} |" in page
    names = [row["utterance_id"] for row in rows]
    assert names == sorted(set(names))
    listed = "".join(f"{name}\n" for name in names)
    assert f"`{hashlib.sha256(listed.encode()).hexdigest()}`" in page
    for row in rows:
        speaker, chapter, _ = row["utterance_id"].split("-")
        assert row["speaker_id"] == speaker
        assert row["file_name"].split("/", 1)[1] == f"{speaker}/{chapter}/{row['utterance_id']}.flac"


def test_the_download_and_the_table_make_the_folder(rows, page, tmp_path, write_sound, monkeypatch, capsys):
    some = [rows[0], rows[1], next(row for row in rows if row["file_name"].startswith("test-other/"))]
    root = tmp_path / "LibriSpeech"
    for row in some:
        write_sound(root / row["file_name"], hz=300 + int(row["speaker_id"]) % 100)
    write_sound(root / "train-clean-100/19/198/19-198-0001.flac")  # what the table does not name is left alone
    with (root / "librispeech-small.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, some[0])
        writer.writeheader()
        writer.writerows({**row, "samples": "4800"} if row is not some[1] else row for row in some)
    corpus = open_corpus("librispeech", str(root / "librispeech-small.csv"))
    export_corpus(corpus, tmp_path / "made")
    made = open_corpus("librispeech", str(tmp_path / "made"))
    assert [u.id for u in made.utterances()] == [f"librispeech/{row['utterance_id']}" for row in some]
    assert [u.speaker for u in made.utterances()] == [f"librispeech/{row['speaker_id']}" for row in some]
    assert [u.gender for u in made.utterances()] == [row["gender"] for row in some]
    assert [u.session for u in made.utterances()] == [None] * 3
    # the page's check of lengths names the one that is not 0.3 s as its row says
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(block, "librispeech_small.md", "exec"), {})
    assert capsys.readouterr().out == f"{some[1]['utterance_id']} 4800\n"
