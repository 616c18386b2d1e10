"""The main path on real speech, in a short form of docs/results/neumann2019.py."""

import csv
import json
import shutil

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from repkit.audio.open import open_corpus
from repkit.cli import app

pytestmark = pytest.mark.realdata


def repkit(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("name", "utterances", "speakers", "counts"),
    [
        (
            "emodb",
            535,
            10,
            {"anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "neutral": 79, "sadness": 62},
        ),
        ("ravdess", 1440, 24, {"anger": 192, "calm": 192, "neutral": 96, "surprise": 192}),
        ("emovo", 588, 6, {"anger": 84, "surprise": 84}),
        ("urdu", 400, 29, {"anger": 100, "happiness": 100, "neutral": 100, "sadness": 100}),
        ("librispeech", 471, 261, {None: 471}),
    ],
)
def test_published_counts(real_data, name, utterances, speakers, counts):
    found = open_corpus(name, str(real_data / name)).utterances()
    assert (len(found), len({u.speaker for u in found})) == (utterances, speakers)
    for emotion, n in counts.items():
        assert sum(u.emotion == emotion for u in found) == n


def test_the_download_of_librispeech_and_the_table_make_the_very_folder(real_data, repo_root, tmp_path):
    """Links laid out as LibriSpeech unpacks stand for the download; the sounds are those of the folder itself."""
    table = repo_root / "docs/results/librispeech-small.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (
        sum(soundfile.info(real_data / f"librispeech/data/{row['utterance_id']}.flac").frames for row in rows)
        == 84647840
    )
    for row in rows:
        place = tmp_path / "LibriSpeech" / row["file_name"]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(real_data / f"librispeech/data/{row['utterance_id']}.flac")
    shutil.copy(table, tmp_path / "LibriSpeech")
    repkit("corpora", "export", f"librispeech={tmp_path / 'LibriSpeech' / table.name}", tmp_path / "made")
    ours = open_corpus("librispeech", str(real_data / "librispeech"))
    made = open_corpus("librispeech", str(tmp_path / "made"))
    assert [(u.id, u.speaker, u.gender) for u in made.utterances()] == [
        (u.id, u.speaker, u.gender) for u in ours.utterances()
    ]
    for place in (0, 100, 470):
        assert np.array_equal(made.read(made.utterances()[place]), ours.read(ours.utterances()[place]))
    page = (repo_root / "docs/results/librispeech_small.md").read_text(encoding="utf-8")
    assert f"fingerprint `{ours.fingerprint()[:12]}`" in page


def test_three_commands_from_librispeech_to_a_score_on_emodb(real_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    librispeech, emodb = f"librispeech={real_data / 'librispeech'}", f"emodb={real_data / 'emodb'}"
    short = ["--set", "training.max_duration_s=3.0", "--set", "training.hidden_size=64", "--set", "training.epochs=3"]
    repkit("pretrain-ae", "--corpus", librispeech, "--out", "runs/ae-librispeech", *short)
    learnt = json.loads((tmp_path / "runs/ae-librispeech/results.json").read_text())
    assert learnt["provenance"]["corpora"][0]["utterances"] > 400
    assert learnt["vector_use"]["own"] < learnt["vector_use"]["zeros"]
    for encoder in ("runs/ae-librispeech", "statistics:runs/ae-librispeech"):
        repkit("embed", "--encoder", encoder, "--corpus", emodb, "--out", "embeddings")
    conditions = [
        "--embeddings",
        "Li=embeddings/ae-librispeech",
        "--embeddings",
        "statistics=embeddings/statistics-ae-librispeech",
    ]
    protocol = ["--set", 'protocol={name="speaker_k_fold", k=2}', "--set", "seeds=[0]", "--set", "training.epochs=12"]
    output = repkit("train-ser", "--recipe", "neumann2019", "--corpus", emodb, *conditions, *protocol)
    assert "report" in output
    (run,) = (tmp_path / "runs/neumann2019").iterdir()
    results = json.loads((run / "results.json").read_text())
    assert results["complete"]
    assert results["n"] == {"utterances": 339, "speakers": 10, "folds": 2, "seeds": 1, "conditions": 3}
    scores = {
        s["condition"]: s["uar"]["mean"]
        for s in results["scores"]
        if s["view"] == "emotion" and s["checkpoint"] == "selected"
    }
    # chance is .25; prototypes and docs/results reach .65 to .75 with ten folds and more epochs
    assert min(scores.values()) > 0.4
    audit = json.loads((run / "protocol.json").read_text())["audit"]
    assert not any("has heard" in flag for flag in audit)  # LibriSpeech shares no speaker with Emo-DB
    assert (run / "report.md").read_text().startswith("# neumann2019 on emodb")
