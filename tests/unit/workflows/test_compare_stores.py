"""Which store is what, which are seeds of one encoder, and whose control is whose."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from repkit.config import SerRecipe, load_recipe
from repkit.config.schema import Condition
from repkit.errors import UsageError
from repkit.store import StoreSpec, StoreWriter
from repkit.workflows.compare.run import Request, command_of, plan_units
from repkit.workflows.compare.stores import controls_of, family_of, read_entries, role_of

GRU = {"encoder": "gru_autoencoder", "readout": "pooled", "frontend": {"name": "spectrogram"}}


def gru(name, *, weights=None, untrained=None, init="paper", hidden=8, heard=("librispeech",), **more):
    """A provenance as the autoencoder's encoder writes it."""
    return {
        **GRU,
        "name": name,
        "architecture": {"hidden_size": hidden, "init": init, "dropout": 0.2},
        "weights_sha256": weights,
        "untrained_seed": untrained,
        "corpora": [] if untrained is not None else [{"name": n, "fingerprint": n, "hours": len(name)} for n in heard],
        "speakers": [] if untrained is not None else [f"librispeech/{name}"],
        "held_out_speakers": [name],
        **more,
    }


def write(tmp_path, name, source, dim=2, kind="vectors"):
    spec = StoreSpec(kind=kind, dim=dim, dtype="float32", corpus="x", corpus_fingerprint="f", source=source, frame_shift_s=0.04 if kind == "frames" else None)  # fmt: skip
    with StoreWriter(tmp_path / name / "x", spec) as writer:
        writer.add("x/1", np.zeros((1, dim) if kind == "frames" else dim, np.float32))
        writer.finish()
    return Condition(name=name, embeddings=str(tmp_path / name))


def test_roles_come_from_the_provenance():
    assert role_of(gru("ae", weights="1")) == "trained"
    assert role_of(gru("ae", untrained=0)) == "untrained"
    assert role_of({"encoder": "functionals", "corpora": []}) == "functionals"
    assert role_of({"encoder": "statistics", "corpora": [], "speakers": []}) == "other"
    assert role_of({"encoder": "transformers", "weights_sha256": "2", "corpora": None}) == "trained"
    assert role_of({}) == "other"


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("cpc-s1", "cpc"),
        ("cpc_seed12", "cpc"),
        ("cpc.seed-3", "cpc"),
        ("ae-s0-pooled", "ae-pooled"),
        ("untrained-ae", "untrained-ae"),
        ("untrained-seed1-ae", "untrained-ae"),
        ("untrained-seed1-ae-s0", "untrained-ae"),
        ("ae-512", "ae-512"),
        ("ae-small", "ae-small"),
        ("seeds", "seeds"),
    ],
)
def test_the_mark_of_a_seed_is_no_part_of_a_family(name, family):
    assert family_of(name) == family


def test_seeds_of_one_encoder_share_a_row_and_others_do_not(tmp_path):
    some = [
        write(tmp_path, "functionals", {"encoder": "functionals"}),
        write(tmp_path, "untrained-ae", gru("untrained-ae", untrained=0)),
        write(tmp_path, "untrained-seed1-ae", gru("untrained-seed1-ae", untrained=1)),
        write(tmp_path, "ae-s0", gru("ae-s0", weights="a")),
        write(tmp_path, "ae-s1", gru("ae-s1", weights="b")),
        write(tmp_path, "ae-s2", gru("ae-s2", weights="c", heard=("tedlium",))),
        write(tmp_path, "cpc-s0", gru("cpc-s0", weights="d", objectives=["cpc"])),
    ]
    entries = read_entries(some, ["x"])
    assert {e.name: e.family for e in entries} == {
        "functionals": "functionals",
        "untrained-ae": "untrained-ae",
        "untrained-seed1-ae": "untrained-ae",
        "ae-s0": "ae-s0",  # two encoders would be called ae: one has heard another corpus
        "ae-s1": "ae-s0",
        "ae-s2": "ae-s2",
        "cpc-s0": "cpc-s0",
    }
    assert read_entries([*some[:5]], ["x"])[3].family == "ae"


def test_a_control_has_the_shape_of_the_trained_encoder_and_may_have_another_initialisation(tmp_path):
    some = [
        write(tmp_path, "ae", gru("ae", weights="a")),
        write(tmp_path, "same", gru("same", untrained=0)),
        write(tmp_path, "torch", gru("torch", untrained=0, init="torch")),
        write(tmp_path, "wide", gru("wide", untrained=0, hidden=16)),
        write(tmp_path, "last", {**gru("last", untrained=0), "readout": "last"}),
        write(tmp_path, "larger", gru("larger", untrained=1), dim=3),
    ]
    entries = read_entries(some, ["x"])
    assert controls_of(entries[0], entries) == ["same", "torch"]
    given = read_entries(some, ["x"], controls=["wide"])
    assert controls_of(given[0], given) == ["wide"]


def test_roles_can_be_given(tmp_path):
    some = [
        write(tmp_path, "is09", {"encoder": "opensmile"}),
        write(tmp_path, "mine", {"encoder": "mine"}),
        write(tmp_path, "noise", {"encoder": "noise"}),
        write(tmp_path, "functionals", {"encoder": "functionals"}),
    ]
    entries = read_entries(some, ["x"], trained=["mine"], controls=["noise"], functionals="is09")
    assert [e.role for e in entries] == ["functionals", "trained", "untrained", "other"]
    assert controls_of(entries[1], entries) == ["noise"]


def test_what_cannot_be_compared_is_refused(tmp_path):
    one, two = write(tmp_path, "one", gru("one", weights="a")), write(tmp_path, "two", gru("two", weights="a"))
    with pytest.raises(UsageError, match="one and two hold vectors of the same encoder"):
        read_entries([one, two], ["x"])
    random = [write(tmp_path, n, gru(n, untrained=0, weights=n)) for n in ("untrained-a", "untrained-b")]
    with pytest.raises(UsageError, match="untrained-a and untrained-b hold vectors of the same encoder"):
        read_entries(random, ["x"])
    with pytest.raises(UsageError, match="--trained on: one of one was expected; did you mean 'one'"):
        read_entries([one], ["x"], trained=["on"])
    with pytest.raises(UsageError, match="already given as trained"):
        read_entries([one], ["x"], trained=["one"], controls=["one"])
    with pytest.raises(UsageError, match="two stores are called one"):
        read_entries([one, one], ["x"])
    with pytest.raises(UsageError, match="single stores were expected"):
        read_entries([Condition(name="z", embeddings=[one.embeddings, two.embeddings])], ["x"])
    with pytest.raises(UsageError, match="frame-level states"):
        read_entries([write(tmp_path, "frames", {}, kind="frames")], ["x"])
    sets = [write(tmp_path, f"f{n}", {"encoder": "functionals", "version": n}) for n in (1, 2)]
    with pytest.raises(UsageError, match="name it by --functionals"):
        read_entries(sets, ["x"])
    assert [e.role for e in read_entries(sets, ["x"], functionals="f2")] == ["other", "functionals"]


def asked(tmp_path, **more):
    some = [write(tmp_path, "functionals", {"encoder": "functionals"}), write(tmp_path, "ae", gru("ae", weights="a"))]
    return Request(corpora={"x": None}, entries=tuple(read_entries(some, ["x"])), **more)


def test_settings_of_the_protocol_of_the_probe_are_kept(tmp_path):
    request = asked(tmp_path, protocol="speaker_k_fold", probe_assignments=("protocol.k=2",))
    unit = plan_units(request)[0]
    table = unit.resolved.protocol
    assert (table.name, table.settings) == ("speaker_k_fold", {"k": 2, "dev": "none"})
    words = command_of(unit, request).split()
    settings = [word for before, word in pairwise(words) if before == "--set"]
    again = load_recipe(SerRecipe, "probe", settings)
    assert (again.protocol, again.vector) == (table, unit.resolved.vector)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"assignments": ("training.epochs=3",)}, "--set training.epochs=3: .*for the probe use --probe-set"),
        ({"seeds": 2}, "--seeds 2: .*no --recipe is given"),
    ],
)
def test_settings_of_stage_two_without_its_recipe_are_refused(tmp_path, given, said):
    with pytest.raises(UsageError, match=said):
        plan_units(asked(tmp_path, **given))
    assert plan_units(asked(tmp_path / "with", recipe="demo", **given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"probe_assignments": ("vector.by=per_corpus",)}, "--probe-set vector.by=per_corpus: .*--normalisation"),
        (
            {"assignments": ("normalisation.mode=none",), "recipe": "demo"},
            "--set normalisation.mode=none: .*--normalisation",
        ),
    ],
)
def test_what_compare_decides_cannot_be_set(tmp_path, given, said):
    with pytest.raises(UsageError, match=said):
        plan_units(asked(tmp_path, **given))


def test_a_store_called_like_a_joined_one_is_refused(tmp_path):
    request = asked(tmp_path)
    third = read_entries([write(tmp_path, "functionals_and_ae", {"encoder": "mine"})], ["x"])
    with pytest.raises(UsageError, match="two stores are called functionals_and_ae"):
        plan_units(replace(request, entries=(*request.entries, *third)))
