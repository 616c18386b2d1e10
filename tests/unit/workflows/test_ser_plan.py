"""What is decided before training: protocol id, signature, conditions, refusals."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from repkit.audio.open import open_corpus
from repkit.config import SerRecipe, load_recipe
from repkit.config.schema import Condition
from repkit.errors import DataError, PluginError, RecipeError, StoreError, UsageError
from repkit.plugins import load
from repkit.store import StoreSpec, StoreWriter
from repkit.workflows.probe import with_heads
from repkit.workflows.train_ser.conditions import find_store
from repkit.workflows.train_ser.cost import condition_cost
from repkit.workflows.train_ser.plan import make_plan


@pytest.fixture(scope="module")
def corpus():
    return open_corpus("synthetic_a", options={"n_speakers": 4, "n_sentences": 2, "n_repetitions": 1})


def plan(corpus, *settings, **overrides):
    return make_plan(load_recipe(SerRecipe, "demo", settings, overrides), {corpus.name: corpus})


def store(folder, corpus, ids=None, dim=3, kind="vectors", **heard):
    spec = StoreSpec(kind=kind, dim=dim, dtype="float32", corpus=corpus.name, corpus_fingerprint=corpus.fingerprint(),
                     source={"encoder": "toy", "speakers": [min(u.speaker for u in corpus.utterances())], **heard}, frame_shift_s=0.04 if kind == "frames" else None)  # fmt: skip
    with StoreWriter(folder / corpus.name, spec) as writer:
        for i in ids or [u.id for u in corpus.utterances()]:
            writer.add(i, np.zeros((2, dim) if kind == "frames" else dim, np.float32))
        writer.finish()
    return str(folder)


def test_the_protocol_id_holds_what_makes_scores_comparable_and_nothing_else(corpus):
    base = plan(corpus).protocol["id"]
    for same in (
        "training.epochs=3",
        "seeds=[5, 6]",
        "model.dropout=0.1",
        "vector.standardise=false",
        "training.learning_rate=0.1",
    ):
        assert plan(corpus, same).protocol["id"] == base, same
    changed = {
        plan(corpus, text).protocol["id"]
        for text in (
            "normalisation.mode=per_speaker",
            "training.select_by=last",
            'labels.views=["emotion"]',
            "labels.map=own",
            "protocol.dev=utterances",
            'protocol={name="leave_one_speaker_out"}',
        )
    }
    assert base not in changed
    assert len(changed) == 6


def test_what_a_phase_sets_is_flagged_and_in_the_protocol_id_as_if_the_recipe_had_set_it(corpus):
    base, whole = plan(corpus), plan(corpus, "training.class_weights=balanced_all")
    counted = [flag for flag in whole.flags if "label counts of all utterances" in flag]
    assert len(counted) == 1
    first, last = {"name": "one"}, {"name": "two", "training": {"class_weights": "balanced_all"}}
    found = plan(corpus, phases=[first, last])
    assert set(counted) <= set(found.flags)
    assert found.protocol["id"] == whole.protocol["id"] != base.protocol["id"]
    # the recipe's own is not used where every phase has another
    plain = {"name": "one", "training": {"class_weights": "none"}}
    assert plan(corpus, "training.class_weights=balanced_all", phases=[plain]).protocol["id"] == base.protocol["id"]
    chosen = plan(corpus, phases=[first, {"name": "two", "training": {"select_by": "last"}}]).protocol
    assert chosen["parts"]["selection_of"] == {"BL": "dev.uar, last"}
    assert plan(corpus, phases=[first, {"name": "two"}]).protocol["id"] == base.protocol["id"]


def test_speakers_of_one_class_are_flagged_where_statistics_are_by_speaker(corpus):
    listed = [replace(u, emotion="anger") if u.speaker.endswith("0") else u for u in corpus.utterances()]
    speakers = {u.speaker for u in listed}
    one = SimpleNamespace(name=corpus.name, utterances=lambda: listed, fingerprint=corpus.fingerprint)
    n = sum(name.endswith("0") for name in speakers)
    assert 0 < n < len(speakers)
    flags = [
        [flag for flag in plan(one, f"normalisation.mode={mode}").flags if "single class" in flag]
        for mode in ("global_train", "per_speaker")
    ]
    assert flags[0] == []
    assert flags[1][0].startswith(f"{n} of {len(speakers)} speakers have a single class")


def test_the_signature_changes_with_the_training_but_not_with_places(corpus, tmp_path):
    one, two = store(tmp_path / "here" / "toy", corpus), store(tmp_path / "there" / "toy", corpus)
    first, second = (plan(corpus, conditions=[{"name": "C", "embeddings": folder}]) for folder in (one, two))
    assert first.signature == second.signature
    assert first.signature != plan(corpus).signature
    assert plan(corpus).signature != plan(corpus, "training.epochs=3").signature
    compared = plan(corpus, conditions=[{"name": "C", "embeddings": one}], reference="C")
    assert compared.signature == first.signature, "another reference is another page, but no other training"


def test_a_key_that_came_later_leaves_the_signatures_of_earlier_runs_alone(corpus, monkeypatch):
    by_length = "training.sampler=length_sorted"
    now, other = (plan(corpus, by_length, f"training.length_step_frames={n}").signature for n in (1, 64))
    assert now != other
    monkeypatch.setattr("repkit.workflows.train_ser.plan.ADDED_LATER", {})
    whole, same = (plan(corpus, by_length, f"training.length_step_frames={n}").signature for n in (1, 64))
    assert whole != now
    assert same == other


def test_two_conditions_of_one_name_are_refused_wherever_they_come_from(corpus, tmp_path):
    one, two = (Condition(name="a", embeddings=store(tmp_path / n / "toy", corpus)) for n in "xy")
    recipe = load_recipe(SerRecipe, "demo")
    for given, name in (([one, two], "a"), ([one.model_copy(update={"name": "BL"})], r"BL \(BL is the baseline's\)")):
        with pytest.raises(UsageError, match=f"two conditions are called {name}; .* write NAME=DIR"):
            make_plan(recipe.with_embeddings(given), {corpus.name: corpus})
    with pytest.raises(UsageError, match="two conditions are called mlp.a"):
        make_plan(with_heads(load_recipe(SerRecipe, "probe"), [one, two], ["mlp"]), {corpus.name: corpus})


def test_jobs_are_folds_by_seeds_by_conditions(corpus, tmp_path):
    made = plan(corpus, conditions=[{"name": "C", "embeddings": store(tmp_path / "toy", corpus)}])
    assert [c.name for c in made.conditions] == ["BL", "C"]
    assert [c.fusion for c in made.conditions] == ["none", "late"]
    assert len(made.jobs) == len(set(made.jobs)) == len(made.folds) * 2 * 2


def test_frame_level_stores_are_fused_early(corpus, tmp_path):
    folder = store(tmp_path / "toy", corpus, kind="frames")
    assert plan(corpus, conditions=[{"name": "C", "embeddings": folder}]).conditions[1].fusion == "early"
    with pytest.raises(UsageError, match="fusion 'late' does not fit a store of frames"):
        plan(corpus, conditions=[{"name": "C", "embeddings": folder, "fusion": "late"}])


def test_a_store_that_lacks_utterances_is_refused(corpus, tmp_path):
    some = [u.id for u in corpus.utterances()][:-2]
    with pytest.raises(StoreError, match="condition C"):
        plan(corpus, conditions=[{"name": "C", "embeddings": store(tmp_path / "toy", corpus, some)}])


def test_stores_are_found_by_corpus_and_ambiguity_is_refused(corpus, tmp_path):
    store(tmp_path / "one", corpus)
    assert find_store(tmp_path, corpus.name) == tmp_path / "one" / corpus.name
    assert find_store(tmp_path / "one", corpus.name) == tmp_path / "one" / corpus.name
    store(tmp_path / "two", corpus)
    with pytest.raises(DataError, match="several encoders"):
        find_store(tmp_path, corpus.name)
    with pytest.raises(DataError, match="make them with `repkit embed"):
        find_store(tmp_path, "other")


def test_an_encoder_that_heard_test_speakers_is_flagged(corpus, tmp_path):
    made = plan(corpus, conditions=[{"name": "C", "embeddings": store(tmp_path / "toy", corpus)}])
    (flag,) = [flag for flag in made.flags if "has heard" in flag]
    assert "condition C: the encoder has heard 1 of 4 test speakers" in flag
    assert not any("has heard" in flag for flag in plan(corpus).flags)


def test_an_encoder_that_heard_speakers_without_names_is_flagged(corpus, tmp_path):
    mine = {"name": "mine", "fingerprint": "f", "utterances_of_unknown_speakers": 86}
    folders = [
        store(tmp_path / "toy", corpus, speakers=[], corpora=[mine, {"name": "known", "fingerprint": "g"}]),
        store(tmp_path / "known", corpus, corpora=[{"name": "known", "fingerprint": "g"}]),
    ]
    for embeddings, n in ((folders[0], 1), (folders, 1), (folders[1], 0)):
        made = plan(corpus, conditions=[{"name": "C", "embeddings": embeddings}])
        flags = [flag for flag in made.flags if "may have heard" in flag]
        assert len(flags) == n
        assert all("condition C" in flag and "unknown speakers: 86 of corpus mine)" in flag for flag in flags)


def test_a_map_that_leaves_one_class_is_refused(corpus):
    with pytest.raises(UsageError, match="has no view"):
        plan(corpus, "labels.map=parry2019")


# ---------------------------------------------------------------- labels that are missing


def labelled(folder, header, rows, **options):
    folder.mkdir()
    for name in {row[0] for row in rows}:
        soundfile.write(folder / name, 0.1 * np.sin(np.arange(4000)), 16000)
    (folder / "metadata.csv").write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    return open_corpus(folder.name, str(folder), options=options)


def refused(corpora, *settings, error=DataError):
    with pytest.raises(error) as caught:
        make_plan(load_recipe(SerRecipe, "attentive_cnn", settings), corpora)
    return caught.value


ROWS = [(f"{s}{n}.wav", s, code) for s in "abc" for n, code in enumerate("WT")]


def test_a_label_column_that_was_not_found_is_named_by_an_option(tmp_path):
    one = labelled(tmp_path / "mine", ("file_name", "speaker_id", "Code"), ROWS)
    said = refused({"mine": one}).message
    assert "a column named emotion or label or emotion_label was expected; its other columns are Code;" in said
    assert "--corpus-set mine.columns.emotion=Code" in said
    assert "labels.map" not in said
    two = labelled(tmp_path / "more", ("file_name", "speaker_id", "Code", "Note"), [(*row, "x") for row in ROWS])
    assert (
        "its other columns are Code, Note; name the right one (--corpus-set more.columns.emotion=COLUMN)"
        in refused({"more": two}).message
    )
    several = refused({"mine": one, "more": two})
    assert [line.partition(":")[0] for line in several.problems] == ["corpus 'mine'", "corpus 'more'"]
    # the remedy works
    options = {"columns": {"emotion": "Code"}, "emotions": {"W": "anger", "T": "sadness"}}
    made = make_plan(
        load_recipe(SerRecipe, "attentive_cnn"), {"mine": open_corpus("mine", str(tmp_path / "mine"), options=options)}
    )
    assert len(made.utterances) == 6


def test_speech_without_labels_is_for_stage_one(tmp_path):
    said = refused(
        {"plain": labelled(tmp_path / "plain", ("file_name", "speaker_id"), [row[:2] for row in ROWS])}
    ).message
    assert "it has no other column with values" in said
    assert "speech without labels is for `repkit pretrain-ae`" in said


def test_labels_that_the_map_leaves_out_are_listed(tmp_path):
    rows = [(name, speaker, {"W": "disgust", "T": "fear"}[code]) for name, speaker, code in ROWS]
    corpus = labelled(tmp_path / "mine", ("file_name", "speaker_id", "emotion"), rows)
    said = refused({"mine": corpus}, "labels.map=neumann2019").message
    assert (
        "its 6 labels are disgust 3, fear 3; one that the map keeps was expected; choose another map (--set labels.map=own)"
        in said
    )


def test_why_utterances_are_not_used_is_true(tmp_path):
    cells = [("anger", "1"), ("fear", "5"), ("sadness", ""), ("", "5"), ("", ""), ("pride", "1")]
    rows = [(f"{s}{n}.wav", s, emotion, rating) for s in "abcd" for n, (emotion, rating) in enumerate(cells)]
    mine = labelled(tmp_path / "mine", ("file_name", "speaker_id", "emotion", "arousal"), rows)
    # four speakers: 4 of each kind
    why = "the first view of labels.views, by which the epoch is chosen"
    both = ("labels.map=own", 'labels.views=["arousal", "emotion"]')
    assert plan(mine, *both).dropped == {f"mine: no arousal, {why}": 8}
    emotion_first = plan(mine, "labels.map=own", 'labels.views=["emotion", "arousal"]')
    assert emotion_first.dropped == {f"mine: no emotion, {why}": 8}
    four = ("labels.map=neumann2019", 'labels.views=["arousal", "emotion"]')
    assert plan(mine, *four).dropped == {
        f"mine: no arousal, {why}": 8,
        "mine: fear (not in map neumann2019)": 4,
        "mine: pride (not in map neumann2019)": 4,
    }
    assert plan(mine, "labels.map=neumann2019", 'labels.views=["emotion"]').dropped == {
        f"mine: no emotion, {why}": 8,
        "mine: fear (not in map neumann2019)": 4,
        "mine: pride (not in map neumann2019)": 4,
    }


def test_a_single_class_is_told_with_what_there_is(tmp_path):
    rows = [(name, speaker, {"W": "anger", "T": "fear"}[code]) for name, speaker, code in ROWS]
    corpus = labelled(tmp_path / "mine", ("file_name", "speaker_id", "emotion"), rows)
    said = refused({"mine": corpus}, "labels.map=neumann2019").message
    assert (
        "map 'neumann2019' finds 1 class(es) of emotion (anger) in 6 utterances, whose labels are anger 3, fear 3"
        in said
    )
    assert "choose another map (--set labels.map=own)" in said
    same = labelled(tmp_path / "same", ("file_name", "speaker_id", "emotion"), [(*row[:2], "anger") for row in rows])
    assert "labels.map=own" not in refused({"same": same}).message  # the map in use is no remedy


# ---------------------------------------------------------------- a model that fails


def test_a_broken_model_is_blamed_in_the_estimate_too(corpus, monkeypatch):
    made = plan(corpus)

    def breaks(self, batch):
        raise IndexError("list index out of range")

    monkeypatch.setattr(load("repkit.models", "attentive_cnn"), "forward", breaks)
    with pytest.raises(
        PluginError, match=r"\(repkit.models: attentive_cnn\): IndexError: .*run `repkit plugins check attentive_cnn`"
    ):
        condition_cost(made, made.conditions[0])


# ---------------------------------------------------------------- phases that name corpora


def test_phases_that_name_a_corpus_that_is_not_there_are_refused_at_once(corpus):
    other = open_corpus("synthetic_b", options={"n_speakers": 4, "n_sentences": 2, "n_repetitions": 1})
    there = [{"name": "source", "corpora": ["synthetic_b"]}, {"name": "target", "each": "corpus"}]
    gone = [there[0], {"name": "target", "corpora": ["synthetic_a", "synthetic_c"], "copy_from": "nobody"}]
    conditions = [Condition(name="good", set={"phases": there}), Condition(name="bad", set={"phases": gone})]
    adapters = {"name": "attentive_cnn", "n_filters": 4, "adapters": True}

    def made(corpora, **overrides):
        recipe = load_recipe(SerRecipe, "demo", (), {"model": adapters, "baseline": False, **overrides})
        return make_plan(recipe, {one.name: one for one in corpora})

    with pytest.raises(RecipeError) as caught:
        made([corpus, other], conditions=conditions, reference="good")
    assert list(caught.value.problems) == [
        "conditions.1.set.phases.1.corpora: 'synthetic_c' is not in the run (synthetic_a, synthetic_b)",
        "conditions.1.set.phases.1.copy_from: 'nobody' is not in the run (synthetic_a, synthetic_b)",
    ]
    with pytest.raises(RecipeError) as caught:
        made([corpus], phases=there, baseline=True)
    assert list(caught.value.problems) == ["phases.0.corpora: 'synthetic_b' is not in the run (synthetic_a)"]
    # each corpus is left out in turn: the fold that tests the source cannot learn from it
    unheard = {"protocol": {"name": "leave_one_corpus_out"}, "model": {**adapters, "adapters": False}}
    with pytest.raises(RecipeError) as caught:
        made([corpus, other], conditions=conditions[:1], reference="good", **unheard)
    assert list(caught.value.problems) == [
        "conditions.0.set.phases.0.corpora: fold 'corpus_synthetic_b' trains on none of synthetic_b"
    ]
    assert made([corpus, other], conditions=conditions[:1], reference="good").jobs
