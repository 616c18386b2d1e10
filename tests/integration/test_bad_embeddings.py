"""Embeddings that do not fit through the real command: refused before anything is trained."""

import shutil

from bad_input import TRAIN
from cli_helpers import cli, ok, read_table, write_table

from repkit.store import StoreWriter, open_store


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
