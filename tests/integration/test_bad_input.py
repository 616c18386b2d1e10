"""Bad input through the real commands: one message that names where, what and the remedy, and nothing lost."""

import errno
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from cli_helpers import PRETRAIN, RECIPE, cli, files_of, ok, read_table, speech, write_corpus, write_table

import repkit.training.data
import repkit.workflows.ser_jobs
import repkit.workflows.train_ser
from repkit.plugins import discover
from repkit.runs.directory import read_json
from repkit.store import StoreWriter, open_store

SOUND = (0.1 * np.sin(np.arange(16000) * 0.2)).astype(np.float32)


def add(folder, name, speaker="s9", emotion="anger"):
    """Add a row for a file to a corpus folder."""
    write_table(folder, [*read_table(folder), (name, speaker, "female", emotion)])


def spoil(folder):
    """Add every kind of file that cannot be used; returns their names and the word that must be said of each."""
    (folder / "unreadable.wav").write_bytes(b"this is no sound at all" * 10)
    soundfile.write(folder / "whole.wav", SOUND, 16000)
    whole = (folder / "whole.wav").read_bytes()
    (folder / "whole.wav").unlink()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    soundfile.write(folder / "short.wav", SOUND[:320], 16000)
    words = {
        "unreadable": ("could not be decoded (Format not recognised)", "convert it to 16 kHz WAV or FLAC"),
        "truncated": ("16022 bytes are there; expected 16022 more", "copy it again from the original or leave it out"),
        "empty": ("has 0 bytes; expected audio", "copy it again from the original or leave it out"),
        "silent": ("every sample is 0; expected speech", "check the channel or leave it out"),
        "nan": ("holds 16000 sample(s) that are NaN", "write it again or leave it out"),
        "short": ("is 0.020 s long; expected at least 0.1 s", "leave it out"),
    }
    for name in words:
        add(folder, f"{name}.wav")
    return words


@pytest.fixture
def spoilt(here):
    """A corpus of 16 good and 6 bad files in ./bad."""
    write_corpus(here / "bad")
    return spoil(here / "bad")


def assert_all_named(done, words, folder="bad"):
    assert done.code == 4, done.err
    text = done.out + done.err
    for name, (value, remedy) in words.items():
        (line,) = [line for line in text.splitlines() if f"{folder}/{name}.wav" in line]
        assert value in line
        assert remedy in line
    assert "Traceback" not in text


def test_check_lists_every_bad_file_at_once(spoilt):
    done = cli("corpora", "check", "bad=bad", "--workers", 1)
    assert_all_named(done, spoilt)
    assert "bad: 22 utterances, 16 usable" in done.out
    assert "6 utterances cannot be used; mend or remove them, or train with --on-bad-audio skip" in done.err


def no_report(monkeypatch):
    """Leave the report out: it takes most of the time of a small run."""
    monkeypatch.setattr(repkit.workflows.train_ser, "render", lambda run: None)
    monkeypatch.setattr("repkit.cli.train_ser._show_results", lambda run: None)


TRAIN = ("train-ser", "--recipe", "tiny.toml", "--workers", 1, "--set", "seeds=[0]")


def test_training_stops_before_it_starts_and_lists_every_bad_file_of_every_corpus(spoilt, here):
    write_corpus(here / "worse", speech("worse", seed=3))
    spoil(here / "worse")
    done = cli(*TRAIN, "--corpus", "bad=bad", "--corpus", "worse=worse")
    assert_all_named(done, spoilt)
    assert_all_named(done, spoilt, "worse")
    assert "corpus 'bad': 6 utterances have audio that cannot be used" in done.err
    assert "corpus 'worse': 6 utterances" in done.err
    assert "--on-bad-audio skip" in done.err
    assert not (here / "runs").exists()
    mended = cli(*TRAIN, "--corpus", "bad=bad", "--dry-run")
    assert mended.code == 0  # a plan decodes nothing


def test_without_them_when_asked_and_recorded(spoilt, here, stage_one, monkeypatch):
    """embed and train-ser leave the same files out, also when one is good for one of them only."""
    embed = ("embed", "--encoder", stage_one / "ae", "--corpus", "bad=bad", "--out", "emb")
    assert_all_named(cli(*embed), spoilt)
    assert "16 utterances, 32 dimensions, 6 left out" in ok(*embed, "--on-bad-audio", "skip").out
    assert_all_named(cli(*embed), spoilt)  # done, but whoever does not ask to skip is told
    train = (*TRAIN, "--corpus", "bad=bad", "--embeddings", "emb")
    refused = cli(*train)
    assert refused.code == 4
    assert "emb/ae/bad: 6 of the utterances that condition ae needs are not in the store" in refused.err
    assert "bad/nan: left out, bad/nan.wav: holds 16000 sample(s)" in refused.err
    no_report(monkeypatch)
    ok(*train, "--on-bad-audio", "skip")
    (run,) = (here / "runs/tiny").iterdir()
    left_out = read_json(run / "data.json")["left_out"]
    assert set(left_out) == {f"bad/{name}" for name in spoilt}
    for name, (value, _) in spoilt.items():
        assert value in left_out[f"bad/{name}"]
    assert len(pd.read_parquet(run / "utterances.parquet")) == 16
    tested = [i for p in run.glob("jobs/ae/*/*/split.json") for i in read_json(p)["test"]]
    assert len(tested) == 16
    assert not {f"bad/{name}" for name in spoilt} & set(tested)


def test_unusual_but_good_files_are_taken_by_all_commands(here, stage_one, monkeypatch):
    write_corpus(here / "odd")
    rng = np.random.default_rng(0)
    soundfile.write(here / "odd/8bit.wav", 0.3 * np.sin(np.arange(16000) * 0.2), 16000, subtype="PCM_U8")
    soundfile.write(here / "odd/cd.wav", 0.3 * np.sin(np.arange(44100) * 0.1), 44100)
    soundfile.write(here / "odd/stereo.flac", rng.normal(0, 0.1, (16000, 2)), 16000)
    minute = np.zeros(60 * 16000, np.int16)
    minute[:16000] = rng.normal(0, 3000, 16000)
    with soundfile.SoundFile(here / "odd/two_hours.flac", "w", 16000, 1, subtype="PCM_16") as file:
        for _ in range(120):
            file.write(minute)
    names = ("8bit.wav", "cd.wav", "stereo.flac", "two_hours.flac")
    for name in names:
        add(here / "odd", name, "s1")
    checked = ok("corpora", "check", "odd=odd", "--workers", 1)
    assert "odd: 20 utterances, 20 usable, 2.00 h, 0.5 to 7200.0 s each" in checked.out
    ok("embed", "--encoder", f"statistics:{stage_one / 'ae'}", "--corpus", "odd=odd", "--out", "emb")
    store = open_store("emb/statistics-ae/odd")
    assert {f"odd/{Path(name).stem}" for name in names} <= set(store.ids)
    no_report(monkeypatch)
    ok(*TRAIN, "--corpus", "odd=odd", "--embeddings", "emb")
    (run,) = (here / "runs/tiny").iterdir()
    durations = pd.read_parquet(run / "utterances.parquet").set_index("id")["duration_s"]
    # cut at max_duration_s = 2; one second of 44.1 kHz is one second
    assert durations["odd/two_hours"] == pytest.approx(2.0, abs=0.05)
    assert durations[["odd/8bit", "odd/cd", "odd/stereo"]].tolist() == pytest.approx([1.0] * 3, abs=0.05)


@pytest.mark.parametrize(
    ("header", "change", "said"),
    [
        (
            ("name", "speaker_id", "gender", "emotion"),
            lambda rows: rows,
            ["no column with the audio files", "--corpus-set"],
        ),
        (("file_name", "talker?", "gender", "emotion"), lambda rows: rows, ["speaker", "--corpus-set"]),
        (
            None,
            lambda rows: [(*rows[0][:3], "angr"), *rows[1:]],
            ["angr", "did you mean 'anger'", "metadata.csv line 2"],
        ),
        (None, lambda rows: [(rows[0][0], "", *rows[0][2:]), *rows[1:]], ["metadata.csv line 2", "speaker"]),
        (None, lambda rows: [("gone.wav", *rows[0][1:]), *rows[1:]], ["gone.wav"]),
        (None, lambda rows: [*rows, rows[0]], ["line 18", "already in line 2"]),
    ],
    ids=["no audio column", "no speaker column", "label typo", "speaker missing", "file missing", "id twice"],
)
def test_faulty_tables_are_refused_with_line_and_remedy(here, header, change, said):
    folder = write_corpus(here / "mine")
    write_table(folder, change(read_table(folder)), header or ("file_name", "speaker_id", "gender", "emotion"))
    done = cli("train-ser", "--recipe", "tiny.toml", "--corpus", "mine=mine", "--workers", 1)
    assert done.code == 4, done.err
    for text in said:
        assert text in done.err
    assert not (here / "runs").exists()


def test_wrong_recipes_tell_all_problems_at_once(here, stage_one):
    Path("wrong.toml").write_text(RECIPE.replace("epochs = 2", 'epochs = "two"\nepoch = 3').replace("seeds", "seds"))
    done = cli("train-ser", "--recipe", "wrong.toml", "--corpus", f"toy={stage_one / 'toy'}")
    assert done.code == 2
    for text in (
        "seds: unknown key; did you mean 'seeds'",
        "training.epochs: got 'two'",
        "training.epoch: unknown key",
    ):
        assert text in done.err
    settings = ("model.dropuot=0.1", "frontend.bands=many", "protocol.n_groups=1", "objectives.0.alpha=-1")
    options = [option for setting in settings for option in ("--set", setting)]
    for command in (("train-ser", "--corpus", f"toy={stage_one / 'toy'}", "--recipe"), ("recipes", "check")):
        done = cli(*command, "tiny.toml", *options)
        assert done.code == 2
        assert "model.dropuot: unknown key; did you mean 'dropout'" in done.err
        assert "frontend.bands: got 'many'" in done.err
        assert "protocol.n_groups: got 1" in done.err
        assert "objectives.0.alpha: got -1" in done.err
    assert files_of(here) == ["tiny.toml", "wrong.toml"]  # said before any frames are made


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train-ser", "--recipe", "dann", "--corpus", "synthetic_a"], 2, "it comes with repkit-dann"),
        (
            ["train-ser", "--recipe", "tiny.toml", "--corpus", "synthetic_a", "--set", 'model={name="lstmm"}'],
            3,
            "no component named 'lstmm'",
        ),
        (
            ["train-ser", "--recipe", "tiny.toml", "--corpus", "synthetic_a", "--set", 'objectives=[{name="dann"}]'],
            3,
            "no component named 'dann' in repkit.objectives; it comes with repkit-dann (pip install repkit-dann)",
        ),
        (
            ["train-ser", "--recipe", "neuman2019", "--corpus", "synthetic_a"],
            2,
            "recipe 'neuman2019': not found; did you mean 'neumann2019'",
        ),
        (["train-ser", "--recipe", "tiny.toml"], 2, "--corpus: none given"),
        (["train-ser", "--recipe", "tiny.toml", "--corpus", "emodb"], 2, "emodb=PATH"),
        (["train-ser", "--recipe", "tiny.toml", "--corpus", "mine=nowhere"], 4, "no such folder"),
        (
            ["train-ser", "--recipe", "tiny.toml", "--corpus", "synthetic_a", "--embeddings", "nowhere"],
            2,
            "no such folder",
        ),
        (["embed", "--encoder", "nowhere", "--corpus", "synthetic_a", "--out", "emb"], 2, "nowhere"),
        (
            ["pretrain-ae", "--corpus", "synthetic_a", "--out", "ae", "--set", "training.epoch=3"],
            2,
            "did you mean 'epochs'",
        ),
        (["report", "."], 2, "protocol.json is missing"),
    ],
)
def test_wrong_names_are_explained(here, arguments, code, said, monkeypatch):
    monkeypatch.setenv("REPKIT_PLUGINS", "none")
    done = cli(*arguments)
    assert (done.code, said in done.err) == (code, True), done.err
    assert files_of(here) == ["tiny.toml"]


class Leaky:
    """Folds whose first test speaker is also in train."""

    from repkit.api import Config

    def __init__(self, config):
        pass

    def folds(self, utterances):
        from repkit.api import Fold

        ids = [u.id for u in utterances]
        return [Fold("all", train=tuple(ids[:-3]), dev=(), test=tuple(ids[-3:]))]


def test_a_speaker_in_train_and_test_stops_the_run_by_name(here, stage_one, monkeypatch):
    from importlib.metadata import EntryPoint

    real = discover.entry_points
    leaky = EntryPoint("leaky", f"{__name__}:Leaky", "repkit.protocols")
    monkeypatch.setattr(
        discover, "entry_points", lambda group: [*real(group=group), *([leaky] if group == leaky.group else [])]
    )
    done = cli(
        "train-ser", "--recipe", "tiny.toml", "--corpus", f"toy={stage_one / 'toy'}", "--set", 'protocol={name="leaky"}'
    )
    assert done.code == 4
    speaker = sorted({row[1] for row in read_table(stage_one / "toy")})[-1]
    assert f"fold 'all': toy/{speaker} in train and in test" in done.err
    assert "expected speaker-disjoint train, dev and test; correct the split" in done.err
    assert not (here / "runs").exists()


def train_with(corpus, store):
    return cli(*TRAIN, "--corpus", f"toy={corpus}", "--embeddings", f"C={store}")


def test_embeddings_of_another_content_are_refused(here, stage_one):
    changed = shutil.copytree(stage_one / "toy", here / "toy")
    rows = read_table(changed)
    write_table(changed, [(*rows[0][:3], "sadness" if rows[0][3] == "anger" else "anger"), *rows[1:]])
    done = train_with(changed, stage_one / "emb/ae")
    assert done.code == 4
    store = open_store(stage_one / "emb/ae/toy")
    assert f"{store.path}: embeddings of corpus 'toy' with fingerprint {store.spec.corpus_fingerprint[:12]}" in done.err
    assert f"delete {store.path} and run `repkit embed` again" in done.err
    assert not (here / "runs").exists()


def test_embeddings_that_lack_utterances_are_refused(here, stage_one):
    whole = open_store(stage_one / "emb/ae/toy")
    with StoreWriter(here / "few/toy", whole.spec) as writer:
        for id in whole.ids[:-2]:
            writer.add(id, whole.read(id))
        writer.leave_out(whole.ids[-2], f"{whole.ids[-2]}: is silent")
        writer.finish()
    done = train_with(stage_one / "toy", here / "few")
    assert done.code == 4
    assert "2 of the utterances that condition C needs are not in the store, which holds 14 of corpus 'toy'" in done.err
    assert f"- {whole.ids[-2]}: left out, {whole.ids[-2]}: is silent\n" in done.err
    assert f"- {whole.ids[-1]}\n" in done.err
    assert "make the store again from the same corpus" in done.err


def test_damaged_and_unfinished_and_missing_embeddings_are_refused(here, stage_one):
    damaged = shutil.copytree(stage_one / "emb/ae", here / "emb/ae")
    (shard,) = damaged.rglob("*.h5")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(data)
    done = train_with(stage_one / "toy", damaged)
    assert done.code == 4
    assert f"{shard}: damaged (sha256" in done.err
    (damaged / "toy/manifest.json").unlink()
    done = train_with(stage_one / "toy", damaged)
    assert done.code == 4
    assert "start the command that fills it again" in done.err
    shutil.rmtree(damaged / "toy")
    done = train_with(stage_one / "toy", damaged)
    assert done.code == 4
    assert "no embeddings of corpus 'toy'" in done.err
    assert f"repkit embed --encoder RUN --corpus toy=PATH --out {damaged}" in done.err


def test_embeddings_of_two_encoders_in_one_condition_are_refused(here, stage_one):
    ok("embed", "--encoder", f"untrained:{stage_one / 'ae'}", "--corpus", f"two={stage_one / 'toy'}", "--out", "emb")
    (here / "mixed").mkdir()
    shutil.copytree(stage_one / "emb/ae/toy", here / "mixed/toy")
    shutil.copytree(here / "emb/untrained-ae/two", here / "mixed/two")
    both = ("--corpus", f"toy={stage_one / 'toy'}", "--corpus", f"two={stage_one / 'toy'}")
    done = cli(*TRAIN, *both, "--embeddings", "C=mixed")
    assert done.code == 4
    assert "mixed: the corpora of condition 'C' were embedded by different encoders" in done.err
    assert "- toy and two differ in source.weights_sha256" in done.err
    several = cli(*TRAIN, *both, "--embeddings", stage_one / "emb")
    assert several.code == 2
    assert f"--embeddings {stage_one / 'emb' / 'untrained-ae'}" in several.err


@contextmanager
def no_room(limit):
    """No file may grow beyond some bytes: a true failure of the file system, as a full disk or a quota is one."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def assert_full(done, *places):
    assert done.code == 4, done.err
    assert "the disk is full or a size limit is reached (" in done.err
    assert "MB free); room to write was expected; make room and start the same command again" in done.err
    assert any(str(place) in done.err for place in places), done.err
    assert "Traceback" not in done.err


def test_a_full_disk_stops_embed_and_the_same_command_goes_on_with_room(here, stage_one):
    command = ("embed", "--encoder", stage_one / "ae", "--corpus", f"toy={stage_one / 'toy'}", "--out", "emb")
    with no_room(4000):
        assert_full(cli(*command), "emb/ae/toy")
    assert not list((here / "emb").rglob("*.tmp.*"))
    ok(*command)
    a, b = open_store(here / "emb/ae/toy"), open_store(stage_one / "emb/ae/toy")
    assert a.spec.fingerprint == b.spec.fingerprint
    np.testing.assert_array_equal(a.load().values, b.load().values)


def test_a_full_disk_stops_pretrain_ae_and_the_same_command_goes_on_with_room(here, stage_one, monkeypatch):
    command = ("pretrain-ae", "--corpus", f"toy={stage_one / 'toy'}", "--out", "ae", *PRETRAIN)
    with no_room(4000):
        assert_full(cli(*command), "cache/frames/toy-")
    monkeypatch.setenv("REPKIT_CACHE", str(stage_one / "cache"))  # frames are there: now the checkpoint fails
    with no_room(4000):
        assert_full(cli(*command), "ae/checkpoints")
    ok(*command)
    assert read_json(here / "ae/status.json")["state"] == "done"
    name = "encoder/model.safetensors"
    assert (here / "ae" / name).read_bytes() == (stage_one / "ae" / name).read_bytes()


def test_a_full_disk_stops_train_ser_and_finished_jobs_are_kept(here, stage_one, monkeypatch):
    command = (*TRAIN, "--corpus", f"toy={stage_one / 'toy'}", "--set", "seeds=[0, 1]")
    with no_room(4000):
        assert_full(cli(*command), "cache/frames/toy-")
    assert not (here / "runs").exists()
    ok(*command, "--dry-run")

    real, calls = repkit.workflows.ser_jobs.write_predictions, []

    def full_at_the_third(path, *more):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, *more)

    no_report(monkeypatch)
    monkeypatch.setattr(repkit.workflows.ser_jobs, "write_predictions", full_at_the_third)
    assert_full(cli(*command), "runs/tiny/")
    (run,) = (here / "runs/tiny").iterdir()
    status = read_json(run / "status.json")
    assert (status["state"], status["done"]) == ("failed", 2)
    kept = {p: p.stat().st_mtime_ns for p in run.glob("jobs/*/*/*/done.json") if ".tmp." not in p.parent.name}
    assert len(kept) == 2
    assert "(continued, 2 of 4 jobs done)" in ok(*command).err
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert len([p for p in run.glob("jobs/*/*/*/done.json") if ".tmp." not in p.parent.name]) == 4
    assert not list(run.rglob("*.tmp.*"))


def test_a_full_disk_while_the_run_is_described_or_reported(here, stage_one, monkeypatch):
    command = (*TRAIN, "--corpus", f"toy={stage_one / 'toy'}")

    def full(*more, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("repkit.cli.train_ser._show_results", lambda run: None)
    with monkeypatch.context() as patch:
        patch.setattr(repkit.workflows.train_ser, "_write_utterances", full)
        assert_full(cli(*command), "runs")
    with monkeypatch.context() as patch:
        patch.setattr(repkit.workflows.train_ser, "render", full)
        assert_full(cli(*command), "runs")
    no_report(monkeypatch)
    assert "(continued, 2 of 2 jobs done)" in ok(*command).err
    (run,) = (here / "runs/tiny").iterdir()
    assert read_json(run / "status.json")["state"] == "done"


def test_too_little_shared_memory_is_told(here, stage_one, monkeypatch):
    def full(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(repkit.training.data.TrainingData, "share_memory", full)
    done = cli(*TRAIN, "--corpus", f"toy={stage_one / 'toy'}", "--workers", 2)
    assert done.code == 4
    assert "/dev/shm: unable to allocate" in done.err
    assert "use --workers 1" in done.err


def test_an_interrupted_run_says_what_is_kept(here, stage_one, monkeypatch):
    real = repkit.workflows.train_ser.run_job

    def interrupted(context, job, on_epoch):
        if job.fold == "group_2":
            raise KeyboardInterrupt
        return real(context, job, on_epoch)

    monkeypatch.setattr(repkit.workflows.train_ser, "run_job", interrupted)
    done = cli(*TRAIN, "--corpus", f"toy={stage_one / 'toy'}")
    assert done.code == 130
    assert "error: interrupted; frames and finished jobs are kept; start the same command again to go on" in done.err
    (run,) = (here / "runs/tiny").iterdir()
    status = read_json(run / "status.json")
    assert (status["state"], status["jobs"], status["done"]) == ("interrupted", 2, 1)


def test_two_commands_do_not_write_one_run(here, stage_one, monkeypatch):
    command = (*TRAIN, "--corpus", f"toy={stage_one / 'toy'}")
    seen = []
    monkeypatch.setattr(repkit.workflows.train_ser, "render", lambda run: seen.append(cli(*command)))
    monkeypatch.setattr("repkit.cli.train_ser._show_results", lambda run: None)
    ok(*command)
    (second,) = seen
    assert second.code == 2
    assert "another process is at work here" in second.err
