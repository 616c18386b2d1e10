"""Phases: what stays to the bit, what starts from where, and weights that have heard the test speakers."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from repkit.api import MISSING, Outputs, TaskSpec
from repkit.config import SerRecipe
from repkit.errors import DataError, RecipeError, SpeakerLeakError
from repkit.stage_two.attentive_cnn import AttentiveCnn
from repkit.stage_two.multi_view import MultiView
from repkit.training.course import Course, Training
from repkit.training.data import FoldData, RaggedTensor, TrainingData
from repkit.training.loop import fit
from repkit.training.optim import scheduled_rate
from repkit.training.phases import class_weights, phase_trainings, run_phases, total_epochs

CLASSES = {"emotion": ("anger", "joy", "sadness"), "arousal": ("low", "high")}
CORPORA = {
    "one": {"emotion": ("anger", "sadness"), "arousal": ("low", "high")},
    "two": {"emotion": ("anger", "joy", "sadness"), "arousal": ("low", "high")},
}


def task():
    return TaskSpec(views=CLASSES, n_bands=4, corpora=CORPORA)


def data(n=24):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(40, 60, (n,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    values = torch.randn(int(offsets[-1]), 4, generator=generator)
    corpora = torch.tensor([0, 1]).repeat(n // 2)
    emotion = torch.where(corpora == 0, torch.tensor([0, 2]).repeat_interleave(2).repeat(n // 4), torch.arange(n) % 3)
    ids = [f"{'one' if c == 0 else 'two'}/{i}" for i, c in enumerate(corpora.tolist())]
    targets = {"emotion": emotion, "arousal": torch.arange(n) // 2 % 2}
    return FoldData(TrainingData(ids, RaggedTensor(values, offsets), targets, corpora=corpora))


def parts(n=24):
    every = torch.arange(n)
    return {"train": every[:16], "dev": every[16:20], "test": every[20:], "unlabelled": every[:0]}


def recipe(phases, **training):
    table = {"epochs": 2, "batch_size": 4, "select_by": "last", "learning_rate": 0.01, **training}
    return SerRecipe.model_validate(
        {"name": "toy", "labels": {"views": ["emotion", "arousal"]}, "training": table, "phases": phases}
    )


def model(adapters=True):
    torch.manual_seed(0)
    config = AttentiveCnn.Config(n_filters=5, kernel_frames=4, pool_size=2, fusion="none", adapters=adapters)
    return AttentiveCnn(config, task())


def objectives():
    return {"multi_view": (MultiView(MultiView.Config(), task()), 1.0)}


def scores(probabilities, indices):
    return {view: {"uar": 0.5, "wa": 0.5, "corpus_uar": 0.5} for view in probabilities}


def train(made, phases, **settings):
    return run(made, recipe(phases, **settings), seed=1)


def run(made, given, seed=0, **names):
    trainings = phase_trainings(
        made, objectives(), data(), parts(), given, seed, scores, corpora=tuple(CORPORA), **names
    )
    return run_phases(trainings, lambda epoch: None)


def changed(before, after):
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def test_a_phase_trains_its_groups_and_leaves_the_rest_to_the_bit():
    made = model()
    before = {k: v.clone() for k, v in made.state_dict().items()}
    train(made, [{"name": "adapt", "train": ["adapter", "head"]}])
    moved = changed(before, made.state_dict())
    assert moved
    assert all(name.startswith(("adapters.", "heads.")) for name in moved)
    assert all(p.requires_grad for p in made.parameters()), "nothing stays frozen for those who come after"


def test_training_one_corpus_leaves_the_other_to_the_bit():
    made = model()
    before = {k: v.clone() for k, v in made.state_dict().items()}
    fitted = train(
        made, [{"name": "adapt", "train": ["adapter", "head"], "corpora": ["two"], "each": "corpus"}], weight_decay=0.1
    )
    assert changed(before, made.state_dict()) == {
        "adapters.maps.two.weight",
        *(f"heads.heads.two.{view}.{kind}" for view in CLASSES for kind in ("weight", "bias")),
    }
    assert [record["corpus"] for record in fitted.history] == ["two", "two"]


def test_each_corpus_is_trained_in_turn_and_epochs_are_counted_on():
    made = model()
    phases = [{"name": "all"}, {"name": "adapt", "train": ["adapter"], "each": "corpus", "training": {"epochs": 3}}]
    fitted = train(made, phases)
    assert [(r["epoch"], r["phase"], r.get("corpus")) for r in fitted.history] == [
        (1, "all", None),
        (2, "all", None),
        *((e, "adapt.one", "one") for e in (3, 4, 5)),
        *((e, "adapt.two", "two") for e in (6, 7, 8)),
    ]
    assert total_epochs(recipe(phases), tuple(CORPORA)) == 8


def test_corpora_that_change_common_weights_keep_weights_of_their_own():
    made = model(adapters=False)
    before = {k: v.clone() for k, v in made.state_dict().items()}
    fitted = train(made, [{"name": "scratch", "initial": "fresh", "each": "corpus"}])
    one, two = (fitted.by_corpus[name][0] for name in CORPORA)
    assert changed(before, one) == changed(before, two) == changed(one, two) == set(before)
    # the second corpus starts from the fresh weights too, not from what the first has made of them
    alone = train(model(adapters=False), [{"name": "scratch", "each": "corpus", "corpora": ["two"]}])
    assert not changed(alone.selected, two)


def test_common_training_after_weights_have_parted_is_refused():
    with pytest.raises(
        RecipeError, match="phase 'b': follows a phase that trained common weights for each corpus apart"
    ):
        train(model(adapters=False), [{"name": "a", "each": "corpus"}, {"name": "b"}])


def test_parted_weights_go_on_corpus_by_corpus():
    phases = [{"name": "a", "each": "corpus"}, {"name": "b", "each": "corpus", "train": ["head"]}]
    fitted = train(model(adapters=False), phases)
    first = train(model(adapters=False), phases[:1])
    for name in CORPORA:
        moved = changed(first.by_corpus[name][0], fitted.by_corpus[name][0])
        assert moved == {f"heads.{view}.{kind}" for view in CLASSES for kind in ("weight", "bias")}


def test_fresh_weights_are_those_of_the_start():
    first, second = model(), model()
    alone = train(first, [{"name": "b"}]).selected
    after = train(second, [{"name": "a"}, {"name": "b", "initial": "fresh"}]).selected
    # the same phase name draws the same batches and dropout
    assert not changed(alone, after)


def test_parts_are_copied_before_they_are_trained():
    made = model()
    nn.init.ones_(made.adapters.maps["one"].weight)
    train(made, [{"name": "head", "train": ["head"], "corpora": ["two"], "copy_from": "one"}])
    assert torch.equal(made.adapters.maps["two"].weight, torch.ones(5, 4))


class Norm(nn.Module):
    """Batch norm and a head, to see what a frozen norm does."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 3)

    def parameter_groups(self):
        return {"norm": list(self.norm.parameters()), "head": list(self.head.parameters())}

    def forward(self, batch):
        hidden = self.norm(batch.frames.mean(1))
        return Outputs({"emotion": self.head(hidden), "arousal": self.head(hidden)[:, :2]}, hidden)


@pytest.mark.parametrize(("groups", "moves"), [(["head"], False), (["norm"], True), ([], True)])
def test_statistics_of_a_frozen_norm_stay(groups, moves):
    made = Norm()
    train(made, [{"name": "p", "train": groups}])
    assert bool(made.norm.running_mean.any()) is moves


def test_a_phase_without_such_parameters_is_refused():
    with pytest.raises(DataError, match="trains adapter, but the model has no such parameters"):
        train(model(adapters=False), [{"name": "adapt", "train": ["adapter"]}])


def test_a_corpus_that_is_not_there_is_refused():
    with pytest.raises(RecipeError, match="corpus 'three' is not in the run; it has one, two"):
        train(model(), [{"name": "p", "corpora": ["three"]}])


def test_best_weights_are_reloaded_at_every_step_of_the_learning_rate():
    """Dev scores fall from the first epoch on, so that the second step must start from the first epoch's weights."""
    seen, made, fold = [], model(False), data()
    falling = iter([0.9, 0.5, 0.4, 0.3, 0.2, 0.1])

    def score(probabilities, indices):
        seen.append({k: v.clone() for k, v in made.state_dict().items()})
        return {"emotion": {"uar": next(falling)}}

    table = recipe([], select_by="dev.uar", patience=2, learning_rate_steps=[1.0, 0.1], epochs=9).training
    fitted = fit(Training(made, objectives(), fold, parts()["train"], parts()["dev"], table, 0, score))
    assert len(fitted.history) == 3 + 2, "patience ends the steps"
    assert fitted.selected_epoch == 1
    assert not changed(seen[0], fitted.selected)
    rates = [record["learning_rate"] for record in fitted.history]
    assert rates == pytest.approx([0.01] * 3 + [0.001] * 2)
    # one epoch at a tenth of the rate from the best weights stays nearer to them than where the first step had come to
    near = sum((seen[3][k] - seen[0][k]).abs().sum() for k in seen[0])
    far = sum((seen[2][k] - seen[0][k]).abs().sum() for k in seen[0])
    assert near < far / 2


def test_small_gains_do_not_reset_patience():
    rising = iter([0.5 + 0.001 * i for i in range(20)])
    table = recipe([], select_by="dev.uar", patience=3, min_gain=0.005, epochs=20).training
    score = lambda p, i: {"emotion": {"uar": next(rising)}}  # noqa: E731
    fitted = fit(Training(model(False), objectives(), data(), parts()["train"], parts()["dev"], table, 0, score))
    # 0.500 sets the mark, 0.501 to 0.503 gain too little; the best of them is still what is kept
    assert len(fitted.history) == 4
    assert fitted.selected_epoch == 4


def test_routes_train_one_view_at_a_time_and_only_what_has_its_label():
    seen = []

    class Routed(Norm):
        def forward(self, batch):
            seen.append((batch.route, {v: bool((t != MISSING).any()) for v, t in batch.targets.items()}))
            return super().forward(batch)

    train(Routed(), [{"name": "av", "route": "view", "views": ["arousal", "emotion"]}])
    trained = [route for route, _ in seen]
    assert trained[:4] == ["arousal", "emotion"] * 2
    assert all(shown == {"emotion": route == "emotion", "arousal": route == "arousal"} for route, shown in seen[:8])


def test_class_balanced_batches_hold_only_what_has_a_label():
    some = data()
    some.data.targets["arousal"][:12] = MISSING
    some.data.targets["arousal"][12:] = (torch.arange(12) > 2).long()  # 3 of low, 9 of high
    given = recipe([{"name": "a", "views": ["arousal"]}], sampler="class_balanced", steps_per_epoch=250)
    (phase, table) = given.resolved_phases()[0]
    every, none = torch.arange(24), torch.arange(0)
    course = Course(Training(model(), objectives(), some, every, none, table, 0, scores, phase=phase))
    drawn = torch.cat([items for items, _ in course.batches()])
    assert len(drawn) == 1000
    # three standard deviations of 1000 throws of a coin are 47
    counts = torch.bincount(drawn, minlength=24)
    assert counts[:12].sum() == 0
    assert abs(int(counts[12:15].sum()) - 500) < 47


def test_lengths_are_rounded_up_before_they_are_sorted():
    some = data()
    n = len(some.data.frames.lengths)
    rows = torch.zeros(int(sum(range(1, n + 1))), 1)
    # lengths n, n - 1 ... 1
    offsets = torch.tensor([0, *range(n, 0, -1)]).cumsum(0)
    some.data.frames = RaggedTensor(rows, offsets)
    every, none = torch.arange(n), torch.arange(0)

    def batches(step):
        given = recipe([{"name": "a"}], sampler="length_sorted", length_step_frames=step, batch_size=8)
        (phase, table) = given.resolved_phases()[0]
        course = Course(Training(model(), objectives(), some, every, none, table, 0, scores, phase=phase))
        return sorted(items.tolist() for items, _ in course.batches())

    assert n == 24
    assert batches(1) == [[*range(7, -1, -1)], [*range(15, 7, -1)], [*range(23, 15, -1)]]
    # 24 to 13 count as 24, 12 to 1 as 12: within each the order of the corpus
    assert batches(12) == [[*range(4, 12)], [*range(12, 20)], [*range(20, 24), *range(4)]]


def test_class_weights_by_hand():
    target = torch.tensor([0, 0, 0, 1, 0, 1, 1, MISSING])
    corpora = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    whole = class_weights("balanced", target, torch.arange(8), corpora)
    # 7 labelled: 4 of class 0, 3 of class 1: N / (C N_c) = 7 / (2 * 4), 7 / (2 * 3)
    assert whole[:4] == pytest.approx(torch.tensor([7 / 8, 7 / 8, 7 / 8, 7 / 6]))
    # what has no class in the view that weighs is neither: its losses of other views count as they are
    assert whole[7] == 1
    each = class_weights("balanced_per_corpus", target, torch.arange(8), corpora)
    # corpus 0: 3 and 1 of 4; corpus 1: 1 and 2 of 3
    assert each[:7] == pytest.approx(torch.tensor([4 / 6, 4 / 6, 4 / 6, 4 / 2, 3 / 2, 3 / 4, 3 / 4]))
    everyone = class_weights("balanced_all", target, torch.tensor([0, 3]), corpora)
    assert everyone[:7] == pytest.approx(whole[:7]), "counted on all, whatever is trained on"
    some = class_weights("balanced", target, torch.tensor([0, 3]), corpora)
    assert some[:4] == pytest.approx(torch.ones(4)), "counted on train alone"


def test_learning_rate_schedules_by_hand():
    constant = recipe([]).training
    assert scheduled_rate(constant, 0.5, 0.9, 100) == pytest.approx(0.005)
    dann = recipe([], schedule="dann").training
    assert scheduled_rate(dann, 1.0, 0.0, 0) == pytest.approx(0.01)
    assert scheduled_rate(dann, 1.0, 1.0, 0) == pytest.approx(0.01 / 11**0.75)
    decayed = recipe([], schedule="time_decay", decay=0.01).training
    assert scheduled_rate(decayed, 1.0, 0.5, 100) == pytest.approx(0.005)


def initial(tmp_path, made, train_ids):
    folder = tmp_path / "jobs" / "x" / "seed_0" / "fold"
    folder.mkdir(parents=True)
    save_file({k: v.clone() for k, v in made.state_dict().items()}, folder / "selected.safetensors")
    (folder / "split.json").write_text(json.dumps({"train": train_ids, "dev": [], "test": []}))
    return folder


def start_from(tmp_path, made, folder, speakers=None):
    given = recipe([{"name": "p", "initial": str(folder), "train": ["head"]}])
    names = {"seed": 0, "fold": "fold", "condition": "x"}
    return run(made, given, names=names, speakers=speakers or {})


def test_initial_weights_of_an_earlier_run(tmp_path):
    earlier = model()
    nn.init.constant_(earlier.conv.weight, 0.25)
    initial(tmp_path, earlier, ["one/0", "three/9"])
    made = model()
    start_from(tmp_path, made, tmp_path / "jobs" / "{condition}" / "seed_{seed}" / "{fold}")
    assert torch.equal(made.conv.weight, earlier.conv.weight)


def test_a_corpus_added_later_starts_fresh_and_leaves_the_others_to_the_bit(tmp_path):
    torch.manual_seed(5)
    config = AttentiveCnn.Config(n_filters=5, kernel_frames=4, pool_size=2, fusion="none", adapters=True)
    earlier = AttentiveCnn(config, TaskSpec(views=CLASSES, n_bands=4, corpora={"one": CORPORA["one"]}))
    nn.init.normal_(earlier.adapters.maps["one"].weight)
    folder = initial(tmp_path, earlier, ["one/0"])
    made = model()
    run(made, recipe([{"name": "p", "initial": str(folder), "train": ["adapter", "head"], "corpora": ["two"]}]))
    state = made.state_dict()
    assert all(torch.equal(state[name], value) for name, value in earlier.state_dict().items())
    assert state["adapters.maps.two.weight"].any()


def test_initial_weights_that_have_heard_a_test_speaker_are_refused(tmp_path):
    folder = initial(tmp_path, model(), ["one/0"])
    voices = {f"{'one' if i % 2 == 0 else 'two'}/{i}": f"s{i % 10}" for i in range(24)}  # one/0 and one/20: s0
    with pytest.raises(SpeakerLeakError, match="has heard 1 speaker"):
        start_from(tmp_path, model(), folder, voices)


@pytest.mark.parametrize("damage", ["no split", "no weights", "cut", "other size"])
def test_initial_weights_that_cannot_be_used_are_refused(tmp_path, damage):
    folder = initial(tmp_path, model(), ["one/0"])
    weights = folder / "selected.safetensors"
    if damage == "no split":
        (folder / "split.json").unlink()
    elif damage == "no weights":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:100])
    else:
        save_file({"conv.weight": torch.zeros(3, 4, 4)}, weights)
    with pytest.raises(DataError, match=str(folder)):
        start_from(tmp_path, model(), folder)
