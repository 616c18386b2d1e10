"""Partitions by speaker, official splits, and the lists that come with the distribution."""

import csv
import json
import os
from pathlib import Path

import pytest
from repkit_adapters.partitions import SPLITS, GerczukPartitions

from repkit import api

SHIPPED = ("emodb", "emovo", "ravdess", "urdu")


def utterances(corpus, speakers, per_speaker=3, column=None):
    """Return some utterances of each speaker, women and men in turn; column gives a speaker's value."""
    return [
        api.Utterance(
            id=f"{corpus}/{speaker}_{i}",
            corpus=corpus,
            speaker=f"{corpus}/{speaker}",
            gender="female" if place % 2 else "male",
            emotion="anger" if i % 2 else "neutral",
            extra={} if column is None else {"part": column(speaker)},
        )
        for place, speaker in enumerate(speakers)
        for i in range(per_speaker)
    ]


def speakers_of(ids):
    return {i.rsplit("_", 1)[0] for i in ids}


def folds(some, **settings):
    return GerczukPartitions(GerczukPartitions.Config(**settings)).folds(some)


def test_sixty_twenty_twenty_by_speaker_within_every_corpus():
    some = utterances("a", [f"s{i}" for i in range(10)]) + utterances("b", [f"t{i}" for i in range(5)])
    (fold,) = folds(some)
    assert fold.name == "partition"
    for corpus, sizes in (("a/", (6, 2, 2)), ("b/", (3, 1, 1))):
        parts = [{s for s in speakers_of(part) if s.startswith(corpus)} for part in (fold.train, fold.dev, fold.test)]
        assert tuple(map(len, parts)) == sizes
        assert len(set.union(*parts)) == sum(sizes)
    assert sorted((*fold.train, *fold.dev, *fold.test)) == sorted(u.id for u in some)
    assert list(fold.train) == sorted(fold.train)


def test_it_depends_on_the_seed_and_not_on_order():
    some = utterances("a", [f"s{i}" for i in range(12)])
    assert folds(some) == folds(some[::-1])
    assert len({fold.test for seed in range(6) for fold in folds(some, seed=seed)}) > 1


def test_an_order_is_taken_whose_parts_hold_every_emotion():
    """Six speakers of one emotion each, two of both: some orders leave dev or test without one."""
    emotions = {"p": "an", "q": "a", "r": "n", "s": "a", "t": "n", "u": "an", "v": "an", "w": "a"}
    some = [
        api.Utterance(id=f"a/{s}_{e}", corpus="a", speaker=f"a/{s}", emotion=e)
        for s, has in emotions.items()
        for e in has
    ]

    def whole(fold):
        return all({i[-1] for i in ids} == {"a", "n"} for ids in (fold.train, fold.dev, fold.test))

    first_order = [whole(folds(some, seed=seed, orders=1)[0]) for seed in range(12)]
    assert not all(first_order)
    assert all(whole(folds(some, seed=seed)[0]) for seed in range(12))
    kept = first_order.index(True)
    assert folds(some, seed=kept) == folds(some, seed=kept, orders=1)


def test_rotations_test_every_speaker_once():
    some = utterances("a", [f"s{i}" for i in range(10)])
    found = folds(some, rotations=5)
    assert [fold.name for fold in found] == [f"rotation_{i}" for i in range(1, 6)]
    tested = [s for fold in found for s in sorted(speakers_of(fold.test))]
    assert sorted(tested) == sorted(speakers_of(u.id for u in some))
    for fold in found:
        parts = [speakers_of(part) for part in (fold.train, fold.dev, fold.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 10


def test_a_corpus_held_out_is_tested_whole():
    some = utterances("a", [f"s{i}" for i in range(5)]) + utterances("b", ["x", "y"])
    (fold,) = folds(some, hold_out=("b",))
    held = {u.id for u in some if u.corpus == "b"}
    assert held <= set(fold.test)
    assert not held & {*fold.train, *fold.dev}
    held_table = GerczukPartitions(GerczukPartitions.Config(hold_out=("b",))).split_table("b", some[-6:])
    assert (held_table["test"], held_table["order"]) == (["x", "y"], None)
    with pytest.raises(api.DataError, match="no utterance in train"):
        folds(some, hold_out=("a", "b"))


def test_an_official_split_comes_from_a_column():
    part = {"p": "train", "q": "Devel", "r": "test", "s": "train"}
    some = utterances("a", "pqrs", column=part.get) + utterances("b", [f"t{i}" for i in range(5)])
    (fold,) = folds(some, columns={"a": "part"})
    a_parts = [{s for s in speakers_of(ids) if s[0] == "a"} for ids in (fold.train, fold.dev, fold.test)]
    assert a_parts == [{"a/p", "a/s"}, {"a/q"}, {"a/r"}]


def test_a_column_without_dev_gives_dev_speakers_from_train():
    some = utterances("a", "pqrstu", column=lambda s: "test" if s in "pq" else "train")
    (fold,) = folds(some, columns={"a": "part"})
    assert speakers_of(fold.test) == {"a/p", "a/q"}
    assert fold.dev
    assert speakers_of(fold.train).isdisjoint(speakers_of(fold.dev))
    assert speakers_of(fold.train) | speakers_of(fold.dev) == {f"a/{s}" for s in "rstu"}


def test_what_cannot_be_used_is_said():
    some = utterances("a", "pqrs", column=lambda s: "trian")
    with pytest.raises(api.DataError, match=r"column 'part': 'trian'; expected one of train"):
        folds(some, columns={"a": "part"})
    with pytest.raises(api.DataError, match=r"protocol.hold_out: no corpus 'b'; expected some of a"):
        folds(some, hold_out=("b",))
    with pytest.raises(api.DataError, match="2 speaker"):
        folds(utterances("a", "pq"))
    with pytest.raises(ValueError, match="leave some speakers to train"):
        GerczukPartitions.Config(shares=(0.5, 0.5))


def test_a_written_split_can_be_given_again(tmp_path):
    some = utterances("a", [f"s{i}" for i in range(8)]) + utterances("b", [f"t{i}" for i in range(5)])
    protocol = GerczukPartitions(GerczukPartitions.Config(seed=3))
    paths = protocol.write_split(some, tmp_path / "lists")
    assert [path.name for path in paths] == ["a.json", "b.json"]
    files = {path.stem: str(path) for path in paths}
    assert folds(some, seed=99, files=files) == protocol.folds(some)
    assert folds(some, seed=99) != protocol.folds(some)


def test_files_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"train": ["p"], "dev": ["q"], "test": ["r"]}))
    with pytest.raises(api.DataError, match="speaker 's' of corpus 'a' stands in no part"):
        folds(utterances("a", "pqrs"), files={"a": str(path)})
    path.write_text("{")
    with pytest.raises(api.DataError, match=r"JSONDecodeError.*make one with write_split"):
        folds(utterances("a", "pqrs"), files={"a": str(path)})


def test_a_speaker_in_two_parts_cannot_be_listed(tmp_path):
    some = utterances("a", "pqrs", column=lambda s: "train")
    mixed = [*some[:-1], api.Utterance(id="a/s_9", corpus="a", speaker="a/s", extra={"part": "test"})]
    protocol = GerczukPartitions(GerczukPartitions.Config(columns={"a": "part"}))
    with pytest.raises(api.DataError, match="a speaker stands in two parts"):
        protocol.split_table("a", [*mixed, some[-1]])


@pytest.mark.parametrize("corpus", SHIPPED)
def test_the_shipped_lists_are_what_the_code_draws(corpus):
    table = json.loads((SPLITS / f"{corpus}.json").read_text())
    listed = [speaker for part in ("train", "dev", "test") for speaker in table[part]]
    assert sorted(listed) == sorted(table["genders"])
    some = [
        api.Utterance(
            id=f"{corpus}/{s}_1", corpus=corpus, speaker=f"{corpus}/{s}", gender=table["genders"][s], emotion="anger"
        )
        for s in sorted(listed)
    ]
    # one utterance per speaker cannot choose the order by its emotions; the file says which was chosen
    config = GerczukPartitions.Config(seed=table["order"], orders=1)
    assert GerczukPartitions(config).split_table(corpus, some) == table
    sizes = [len(table[part]) for part in ("train", "dev", "test")]
    assert sizes[1] == sizes[2] == max(1, round(0.2 * sum(sizes)))


def test_the_shipped_lists_are_all():
    assert sorted(path.stem for path in SPLITS.iterdir()) == sorted(SHIPPED)


@pytest.mark.realdata
@pytest.mark.parametrize("corpus", SHIPPED)
def test_the_shipped_lists_name_every_speaker_of_the_corpus(corpus):
    folder = Path(os.environ.get("REPKIT_REAL_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real corpora here; set REPKIT_REAL_DATA to their folder")
    with (folder / corpus / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    some = [
        api.Utterance(
            id=f"{corpus}/{i}", corpus=corpus, speaker=f"{corpus}/{row['speaker_id']}", gender=row["gender"],
            emotion=row["emotion"],
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip
    table = json.loads((SPLITS / f"{corpus}.json").read_text())
    assert GerczukPartitions().split_table(corpus, some) == table
    emotion_of = {u.id: u.emotion for u in some}
    parts = GerczukPartitions().parts_of(corpus, some)
    assert all({emotion_of[i] for i in ids} == set(emotion_of.values()) for ids in parts)
