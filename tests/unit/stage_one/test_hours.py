"""training.hours: nested, even over speakers and corpora, recorded; training.updates: exactly so many, resumed exactly."""

import json
import re
import threading
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from repkit.api import Utterance
from repkit.errors import DataError, UsageError
from repkit.stage_one import train as train_module
from repkit.stage_one.data import split_speakers
from repkit.stage_one.hours import nested_order, seconds_of, take_hours
from repkit.stage_one.train import pretrain
from repkit.training.checkpoint import load_newest_checkpoint


def said(corpus, speaker, n, seconds):
    """Return n utterances of one speaker and their lengths."""
    who = None if speaker is None else f"{corpus}/{speaker}"
    some = [Utterance(id=f"{corpus}/{speaker}-{i:03d}", corpus=corpus, speaker=who) for i in range(n)]
    return some, {u.id: seconds for u in some}


def joined(*parts):
    return [u for some, _ in parts for u in some], {id: s for _, lengths in parts for id, s in lengths.items()}


def shares(chosen, seconds):
    found = {}
    for one in chosen:
        found[one.speaker] = found.get(one.speaker, 0) + seconds[one.id]
    return found


def test_every_begin_is_even_over_speakers_whatever_they_have_said():
    utterances, seconds = joined(said("c", "a", 100, 4.0), said("c", "b", 40, 10.0), said("c", "d", 30, 2.0))
    order = nested_order(utterances, seconds, 0)
    assert sorted(u.id for u in order) == sorted(u.id for u in utterances)
    for n in range(1, len(order) + 1):
        so_far = shares(order[:n], seconds)
        done = shares(utterances, seconds)
        open_ = [so_far.get(name, 0) for name in done if so_far.get(name, 0) < done[name]]
        # nobody who has more to say lies behind another by more than the longest utterance
        assert not open_ or max(so_far.values()) - min(open_) <= 10.0
    first_minute = shares(order[:15], seconds)
    assert max(first_minute.values()) - min(first_minute.values()) <= 10.0


def test_corpora_advance_in_proportion_and_unknown_speakers_are_no_speaker():
    utterances, seconds = joined(said("big", "a", 300, 2.0), said("big", "b", 300, 2.0), said("small", None, 100, 3.0))
    order = nested_order(utterances, seconds, 3)
    for n in (8, 60, 250, 500):
        total = sum(seconds[u.id] for u in order[:n])
        small = sum(seconds[u.id] for u in order[:n] if u.corpus == "small")
        assert small == pytest.approx(total * 300 / 1500, abs=5.0)


def test_the_order_depends_on_the_seed_and_not_on_the_listing():
    utterances, seconds = joined(said("c", "a", 20, 3.0), said("c", "b", 20, 2.0), said("d", None, 20, 1.0))
    order = [u.id for u in nested_order(utterances, seconds, 1)]
    assert order == [u.id for u in nested_order(utterances[::-1], seconds, 1)]
    assert order != [u.id for u in nested_order(utterances, seconds, 2)]
    # written down once: the same speech on every machine and after every update of a library
    assert order[:6] == ["c/a-007", "c/b-005", "d/None-004", "c/b-011", "c/a-017", "d/None-012"]


def test_fewer_hours_lie_within_more_and_held_out_speakers_stay():
    utterances, seconds = joined(*(said("c", f"s{n:02d}", 30, 6.0 + n / 10) for n in range(20)))
    split = split_speakers(utterances, 0.1, 7)
    took = [take_hours(split, utterances, seconds, hours, 0) for hours in (0.1, 0.3, 0.9)]
    for hours, one in zip((0.1, 0.3, 0.9), took):
        assert sum(seconds[id] for id in one.train) / 3600 == pytest.approx(hours, abs=0.0012)  # half an utterance
        assert (one.dev, one.dev_speakers) == (split.dev, split.dev_speakers)
        assert not one.train & one.dev
        assert set(one.train_speakers) == {u.speaker for u in utterances if u.id in one.train}
        assert f" of {sum(seconds[id] for id in split.train) / 3600:.4g} h heard, 18 speakers" in one.note
    assert took[0].train < took[1].train < took[2].train < split.train
    assert len(took[0].train_speakers) == 18  # all that are not held out, although it is 3 % of the speech
    # another training seed holds out others and else hears the same
    other = take_hours(split_speakers(utterances, 0.1, 8), utterances, seconds, 0.1, 0)
    free = [u.id for u in utterances if u.speaker not in {*split.dev_speakers, *other.dev_speakers}]
    assert len(took[0].train & other.train & set(free)) > 0.8 * len(took[0].train & set(free))
    assert take_hours(split, utterances, seconds, 0.1, 1).train != took[0].train


def test_more_hours_than_there_are_is_an_error_that_says_how_many_there_are():
    utterances, seconds = joined(said("c", "a", 30, 6.0), said("c", "b", 30, 6.0))
    split = split_speakers(utterances, 0.0, 0)
    assert take_hours(split, utterances, seconds, 0.1005, 0).train == split.train  # 0.1 h and the tolerance
    with pytest.raises(
        DataError, match=r"training.hours = 0.2: the speech to train on is 0.1 h .*0.2 h or more"
    ) as caught:
        take_hours(split, utterances, seconds, 0.2, 0)
    assert caught.value.exit_code == 4


def weights(out):
    return load_file(out / "encoder" / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_hears_so_many_hours_and_records_them(toy, tmp_path, small):
    store, utterances = toy
    seconds = seconds_of([store])
    assert seconds["toy/000"] == pytest.approx(0.04 * store.lengths[list(store.ids).index("toy/000")])
    results = pretrain([store], utterances, tmp_path / "run", small(hours=5 / 3600, epochs=1), "none")
    heard = results["provenance"]["corpora"][0]
    assert heard["hours"] == pytest.approx(5 / 3600, abs=0.5 / 3600)
    assert 0 < heard["utterances"] < 16
    assert results["provenance"]["settings"]["hours"] == 5 / 3600
    assert len(results["provenance"]["speakers"]) == 4
    assert re.search(r"; 0\.001\d+ of 0\.00\d+ h heard, 4 speakers", results["split"])
    whole = pretrain([store], utterances, tmp_path / "whole", small(epochs=1), "none")
    assert whole["provenance"]["held_out_speakers"] == results["provenance"]["held_out_speakers"]
    with pytest.raises(DataError, match="hours = 2:"):
        pretrain([store], utterances, tmp_path / "more", small(hours=2), "none")
    with pytest.raises(UsageError, match="settings.hours_seed: 0 in the folder, 1 asked for"):
        pretrain([store], utterances, tmp_path / "run", small(hours=5 / 3600, epochs=1, hours_seed=1), "none")


def test_exactly_so_many_updates_whatever_the_epochs(toy, tmp_path, small):
    ended = []
    results = pretrain([toy[0]], toy[1], tmp_path / "run", small(updates=5), "none", ended.append)
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert results["updates"] == 5
    assert results["epochs"] == len(metrics) == 2
    assert ended == [1, 2]
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["epoch"], status["epochs"], status["updates"]) == ("done", 2, 2, 5)
    # as many as two epochs have: the same training
    by_epochs = pretrain([toy[0]], toy[1], tmp_path / "epochs", small(epochs=2), "none")
    by_updates = small(updates=by_epochs["updates"], epochs=9)
    assert pretrain([toy[0]], toy[1], tmp_path / "updates", by_updates, "none")["epochs"] == 2
    assert same(weights(tmp_path / "epochs"), weights(tmp_path / "updates"))
    few = pretrain([toy[0]], toy[1], tmp_path / "few", small(updates=1, diagnose_every=1), "none")
    assert few["updates"] == 1


def test_stopped_anywhere_so_many_updates_end_with_the_same_weights(toy, tmp_path, small, monkeypatch):
    config = small(updates=8, feed_previous_probability=0.3, decoder="unidirectional", input_noise=0.1)
    pretrain([toy[0]], toy[1], tmp_path / "whole", config, "none")
    whole = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()

    @contextmanager
    def stopped_after(enabled):
        stop = threading.Event()
        real = train_module._Run._update
        left = [n]

        def update(self, indices):
            left[0] -= 1
            if not left[0]:
                stop.set()
            return real(self, indices)

        with monkeypatch.context() as patch:
            patch.setattr(train_module._Run, "_update", update)
            yield stop

    for n in (1, 4, 8):  # in an epoch, at its end, behind the last update of all
        out = tmp_path / f"stopped-{n}"
        with monkeypatch.context() as patch:
            patch.setattr(train_module, "stop_requests", stopped_after)
            with pytest.raises(KeyboardInterrupt):
                pretrain([toy[0]], toy[1], out, config, "none")
        assert load_newest_checkpoint(out / "checkpoints").step == n
        results = pretrain([toy[0]], toy[1], out, config, "none")
        assert results["updates"] == 8
        assert same(weights(out), weights(tmp_path / "whole"))
        lines = [[json.loads(line)[k] for line in text for k in ("epoch", "train_rmse", "dev_rmse")]
                 for text in (whole, (out / "metrics.jsonl").read_text().splitlines())]  # fmt: skip
        assert lines[0] == lines[1]


def test_many_short_epochs_are_not_all_saved_and_are_trained_again_where_they_were_not(
    toy, tmp_path, small, monkeypatch
):
    config = small(updates=24)
    saved = []
    real = train_module.save_checkpoint

    def save(folder, step, *rest, **more):
        saved.extend([step] * (folder.name == "checkpoints"))
        return real(folder, step, *rest, **more)

    monkeypatch.setattr(train_module, "save_checkpoint", save)

    def killed(epoch):
        if epoch == 4:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        pretrain([toy[0]], toy[1], tmp_path / "run", config, "none", killed)
    assert saved == []
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 4
    for name in ("run", "whole"):
        results = pretrain([toy[0]], toy[1], tmp_path / name, config, "none")
    assert saved == [24, 24]
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    lines = [
        [(m["epoch"], m["train_rmse"], m["dev_rmse"]) for m in map(json.loads, text.splitlines())]
        for text in ((tmp_path / name / "metrics.jsonl").read_text() for name in ("run", "whole"))
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == results["epochs"] > 4
    saved.clear()
    pretrain([toy[0]], toy[1], tmp_path / "often", small(updates=24, checkpoint_every_s=1e-9), "none")
    assert saved == list(range(1, 25))


def test_what_on_epoch_raises_ends_a_training_that_can_be_resumed(toy, tmp_path, small):
    def refuse(epoch):
        raise RuntimeError("not wanted any more")

    with pytest.raises(RuntimeError, match="not wanted"):
        pretrain([toy[0]], toy[1], tmp_path / "run", small(), "none", refuse)
    for name in ("run", "whole"):
        pretrain([toy[0]], toy[1], tmp_path / name, small(), "none")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
