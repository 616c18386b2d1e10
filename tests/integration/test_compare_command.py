"""repkit compare as a user types it, on small stores whose contents decide the verdict."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from cli_helpers import RECIPE, cli, ok, speech, write_corpus

import repkit.workflows.train_ser.run
from repkit.api import Utterance
from repkit.audio.open import open_corpus
from repkit.config.schema import Condition
from repkit.runs.directory import read_json
from repkit.store import StoreSpec, StoreWriter
from repkit.workflows.compare.cost import plan_runs
from repkit.workflows.compare.run import Request
from repkit.workflows.compare.stores import read_entries
from repkit.workflows.train_ser.cost import Cost

GRU = {"encoder": "gru_autoencoder", "readout": "pooled", "architecture": {"hidden_size": 4}, "frontend": {"bands": 8}}
QUICK = ("--workers", 1, "--probe-set", "model.c=[0.05]")
QUICK += ("--probe-set", "protocol.n_groups=2", "--probe-set", "protocol.max_speakers=2")
"""A linear SVM of one C on two folds."""


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr(repkit.workflows.train_ser.run, "render", lambda run: None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with two corpora of 8 speakers (one/, two/), emb/, a cache and tiny.toml."""
    folder = tmp_path_factory.mktemp("compare")
    for name in ("one", "two"):
        write_corpus(folder / name, speech(name, n_speakers=8))
    corpora = [open_corpus(name, str(folder / name)) for name in ("one", "two")]
    trained = {**GRU, "corpora": [{"name": "librispeech", "fingerprint": "f"}], "speakers": []}
    untrained = {**GRU, "weights_sha256": None, "corpora": [], "speakers": []}
    embed(folder, corpora, "functionals", {"encoder": "functionals"}, 6, seed=0, signal=0.3)
    embed(folder, corpora, "untrained-ae", {**untrained, "untrained_seed": 0}, 4, seed=1)
    embed(folder, corpora, "ae-s0", {**trained, "weights_sha256": "a"}, 4, seed=2, signal=6.0)
    embed(folder, corpora, "ae-s1", {**trained, "weights_sha256": "b"}, 4, seed=3, signal=6.0)
    embed(folder, corpora, "useless", {**trained, "weights_sha256": "c"}, 4, seed=4)
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    return folder


def embed(folder, corpora, name, source, dim, *, seed, signal=0.0):
    """Write vectors of noise, the first number of which tells the emotion as clearly as `signal` says."""
    for corpus in corpora:
        spec = StoreSpec(kind="vectors", dim=dim, dtype="float32", corpus=corpus.name,
                         corpus_fingerprint=corpus.fingerprint(), source=source)  # fmt: skip
        draw = np.random.default_rng(seed)
        with StoreWriter(folder / "emb" / name / corpus.name, spec) as writer:
            for utterance in corpus.utterances():
                writer.add(utterance.id, vector(utterance, draw, dim, signal))
            writer.finish()


def vector(utterance: Utterance, draw, dim, signal):
    values = draw.normal(size=dim)
    values[0] += signal if utterance.emotion == "anger" else 0.0
    return values.astype(np.float32)


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    monkeypatch.setenv("REPKIT_CACHE", str(place / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stores(place, *names):
    return [place / "emb" / name for name in names]


def corpora(place, *names):
    return [word for name in names for word in ("--corpus", f"{name}={place / name}")]


def uar(run, condition):
    """Pooled UAR of a condition, from its predictions by pandas alone."""
    rows = pd.concat(pd.read_parquet(p) for p in (run / "jobs" / condition).glob("*/*/predictions.parquet"))
    rows = rows[(rows.part == "test") & (rows.checkpoint == "selected")]
    return (rows.label == rows.prediction).groupby(rows.label).mean().mean()


def test_a_trained_encoder_that_knows_more_passes_and_everything_is_written(place, here, monkeypatch):
    some = stores(place, "functionals", "untrained-ae", "ae-s0", "ae-s1")
    done = ok("compare", *some, *corpora(place, "one", "two"), *QUICK)
    assert "PASSED  ae, probe, against untrained-ae" in done.out
    assert "train normalisation [functionals + trained] - [functionals + untrained] is +" in done.out
    assert "run 4 of 4: probe on two, per-speaker normalisation" in done.err
    state = read_json(here / "compare/compare.json")
    assert state["complete"]
    assert {one["name"]: one["role"] for one in state["stores"]} == {
        "functionals": "functionals", "untrained-ae": "untrained", "ae-s0": "trained", "ae-s1": "trained",
    }  # fmt: skip
    # the table again, from the predictions
    runs = {(run["normalisation"], run["corpus"]): run for run in state["runs"]}
    assert len({run["protocol_id"] for run in state["runs"]}) == 4
    for mode in ("train", "per_speaker"):
        means = []
        for corpus in ("one", "two"):
            path = here / runs[mode, corpus]["path"]
            assert read_json(path / "resolved.json")["vector"]["by"] == mode
            means.append(np.mean([uar(path, f"functionals_and_ae-s{n}") for n in (0, 1)]))
        found = {(s["system"], s["corpus"]): s for s in state["scores"] if s["normalisation"] == mode}
        assert found["functionals + ae", "one"]["uar"] == pytest.approx(means[0])
        assert found["functionals + ae", "mean"]["uar"] == pytest.approx(np.mean(means))
        assert found["ae", "mean"]["n_members"] == 2
    (gate,) = state["gates"]
    assert gate["verdict"] == "passed"
    assert len(gate["differences"]) == 8
    page = (here / "compare/compare.md").read_text()
    assert page.startswith("# Does stage one help?\n\n- **passed**: ae, probe, against untrained-ae")
    assert "One seed only of untrained-ae" in page
    assert "transductive: condition(s) functionals" in page
    assert f"`{state['runs'][0]['protocol_id']}`" in page
    assert "| ae-s0 | trained | ae | gru_autoencoder | pooled | 4 | librispeech |" in page
    assert "nan" not in page
    rows = list(csv.DictReader((here / "compare/table.csv").open()))
    assert {row["kind"] for row in rows} == {"uar", "difference"}
    assert sum(row["kind"] == "difference" for row in rows) == 8 * 3
    assert (here / "compare/figure.png").stat().st_size > 5000
    # nothing is trained twice; a further store costs its own conditions only
    trained = []
    work = repkit.workflows.train_ser.run.train_ser

    def watched(recipe, *args, **kwargs):
        trained.append([condition.name for condition in recipe.conditions])
        return work(recipe, *args, **kwargs)

    monkeypatch.setattr(repkit.workflows.train_ser.run, "train_ser", watched)
    again = ok("compare", *some, *corpora(place, "one", "two"), *QUICK)
    assert again.out == done.out
    assert not trained
    plan = ok("compare", *some, place / "emb/useless", *corpora(place, "one"), *QUICK, "--dry-run")
    *_, last, total = plan.out.splitlines()
    assert last.split()[-3:-1] == ["9", "7"]
    assert "2 runs, 4 conditions to train; expected 0.0" in total
    more = ok("compare", *some, place / "emb/useless", *corpora(place, "one"), *QUICK, "--out", "more")
    assert trained == [["useless", "functionals_and_useless"]] * 2
    assert "PASSED  ae, probe" in more.out
    assert "NOT PASSED  useless, probe" in more.out
    assert "2 trained encoders were judged" in (here / "more/compare.md").read_text()
    (here / "compare/compare.md").unlink()
    ok("compare", "--page-only")
    assert (here / "compare/compare.md").read_text() == page


def test_conditions_that_are_alike_are_tried_once(place, here):
    tried = []

    def try_out(plan, condition):
        tried.append((condition.name, list(plan.corpora)))
        return Cost(36.0, 18.0)

    names = ("functionals", "untrained-ae", "ae-s0", "ae-s1")
    given = {name: open_corpus(name, str(place / name)) for name in ("one", "two")}
    entries = read_entries([Condition(name=n, embeddings=str(place / "emb" / n)) for n in names], list(given))
    quick = ("protocol.n_groups=2", "protocol.max_speakers=2")
    runs = plan_runs(Request(entries=tuple(entries), corpora=given, probe_assignments=quick, workers=4), try_out)
    # four stores alone and three joined on two corpora under two normalisations, each 18 s, and 36 s by four processes
    assert [one.hours for one in runs] == [pytest.approx(7 * (18 + 36 / 4) / 3600)] * 4
    # by their width: of the functionals, of the encoders, of both
    firsts = ("functionals", "untrained-ae", "functionals_and_untrained-ae")
    assert tried == [(name, [corpus]) for corpus in ("one", "two") for name in firsts]
    assert not list(here.iterdir())


def test_stage_two_is_compared_beside_the_probe(place, here):
    some = stores(place, "functionals", "untrained-ae", "ae-s0")
    done = ok("compare", *some, *corpora(place, "one"), *QUICK, "--recipe", place / "tiny.toml", "--seeds", 1,
              "--set", "training.epochs=1")  # fmt: skip
    assert "run 3 of 4" in done.err
    state = read_json(here / "compare/compare.json")
    recipe = str(place / "tiny.toml")
    assert [one["head"] for one in state["verdicts"]] == ["probe", recipe]
    systems = [s["system"] for s in state["scores"] if (s["head"], s["normalisation"]) == (recipe, "train")]
    assert systems == [
        "BL",
        "functionals",
        "untrained-ae",
        "ae-s0",
        "functionals + untrained-ae",
        "functionals + ae-s0",
    ]
    run = next(here / r["path"] for r in state["runs"] if (r["head"], r["normalisation"]) == (recipe, "per_speaker"))
    resolved = read_json(run / "resolved.json")
    assert (resolved["normalisation"]["mode"], resolved["seeds"]) == ("per_speaker", [0])
    joined = next(c for c in resolved["conditions"] if c["name"] == "functionals_and_ae-s0")
    assert joined["embeddings"] == [str(path) for path in stores(place, "functionals", "ae-s0")]
    command = next(r["command"] for r in state["runs"] if r["head"] == recipe)
    assert "--set seeds=[0]" in command.replace("'", "")
    assert "functionals_and_ae-s0=" in command


@pytest.mark.parametrize(
    ("names", "more", "said"),
    [
        (["functionals", "ae-s0"], [], "no untrained encoder of the shape of ae-s0"),
        (["untrained-ae", "ae-s0"], [], "no functionals among the stores"),
        (["functionals", "untrained-ae"], [], "no trained encoder among the stores"),
        (
            ["functionals", "untrained-ae", "ae-s0"],
            ["--normalisation", "train"],
            "nothing was measured under per-speaker",
        ),
    ],
)
def test_without_a_role_or_a_mode_nothing_is_told(place, here, names, more, said):
    quick = ("--workers", 1, "--probe-set", "model.c=[0.01]", "--protocol", "leave_one_speaker_group_out")
    done = ok(
        "compare", *stores(place, *names), *corpora(place, "one"), *quick, *(more or ["--normalisation", "train"])
    )
    assert "CANNOT BE TOLD" in done.out
    assert said in done.out


def test_where_to_work_is_asked_as_of_train_ser(place, here, monkeypatch):
    """The options reach every run; in one program on the CPU the probe gives what it gives in processes."""
    words = [*stores(place, "functionals", "ae-s0"), *corpora(place, "one"), *QUICK, "--normalisation", "train"]
    seen = []
    work = repkit.workflows.train_ser.run.train_ser

    def watched(*args, **kwargs):
        seen.append({name: kwargs[name] for name in ("executor", "device", "at_once", "scheduler")})
        return work(*args, **kwargs)

    monkeypatch.setattr(repkit.workflows.train_ser.run, "train_ser", watched)
    plain = ok("compare", *words)
    batched = ok(
        "compare", *words, "--executor", "batched", "--device", "cpu", "--at-once", 3, "--runs", "b", "--out", "b"
    )
    assert seen == [
        {"executor": "auto", "device": "auto", "at_once": 64, "scheduler": None},
        {"executor": "batched", "device": "cpu", "at_once": 3, "scheduler": None},
    ]
    assert batched.out.replace("b/compare", "compare/compare").split("written")[0] == plain.out.split("written")[0]
    done = cli("compare", *words, "--executor", "processes", "--scheduler", "tcp://nowhere:1", "--out", "c")
    assert (done.code, "dask was expected" in done.err) == (2, True)
    assert not (here / "c").exists()
    assert len(seen) == 2


def test_wrong_comparisons_are_refused_before_anything_is_trained(place, here):
    one = corpora(place, "one")
    for words, code, said in (
        ([*one], 2, "no store"),
        ([place / "emb/ae-s0", *one, "--normalisation", "speaker"], 2, "train, per_speaker, per_corpus were expected"),
        ([place / "emb/ae-s0", *one, "--recipe", "probe"], 2, "the probe is run anyway"),
        ([place / "emb/ae-s0", *one, "--functionals", "nowhere"], 2, "no such folder"),
        ([place / "emb", *one], 2, "several encoders"),
        (["--page-only"], 4, "expected what `repkit compare` writes"),
    ):
        done = cli("compare", *words)
        assert done.code == code, done.err
        assert said in " ".join(done.err.split())
    assert not list(here.iterdir())


def test_joined_embeddings_on_the_command_line(place, here):
    pair = f"{place / 'emb/functionals'}+{place / 'emb/ae-s0'}"
    words = [*corpora(place, "one"), "--workers", 1]
    words += ["--set", "model.c=[0.05]", "--set", "protocol.n_groups=2", "--set", "protocol.max_speakers=2"]
    cli("probe", f"both={pair}", *words)  # without a report there are no scores to print: the run is what counts
    (run,) = (here / "runs/probe").iterdir()
    described = read_json(run / "data.json")["conditions"]["linear_svm"]
    assert described["dim"] == 10
    assert len(described["stores"]["one"]["source"]["parts"]) == 2
    assert json.loads((run / "resolved.json").read_text())["conditions"][0]["embeddings"] == pair.split("+")
    done = cli("probe", f"{place / 'emb/functionals'}+{place / 'emb/gone'}", *words)
    assert done.code == 2
    assert "emb/gone: no such folder" in " ".join(done.err.split())


def test_joined_embeddings_weigh_the_same_in_whatever_executor(place, here):
    pair = f"both={place / 'emb/functionals'}+{place / 'emb/ae-s0'}"
    words = [
        "--recipe",
        place / "tiny.toml",
        *corpora(place, "one"),
        "--embeddings",
        pair,
        "--workers",
        1,
        "--device",
        "cpu",
    ]
    words += ["--set", "seeds=[0]", "--set", "baseline=false", "--set", "model.dropout=0.0"]
    seen = []
    for executor in ("processes", "batched"):
        cli("train-ser", *words, "--executor", executor, "--runs", executor)
        (run,) = (here / executor / "tiny").iterdir()
        rows = pd.concat(pd.read_parquet(p) for p in (run / "jobs/both").glob("*/*/predictions.parquet"))
        rows = rows[rows.part == "test"].sort_values(["checkpoint", "id"])
        seen.append(np.stack(rows.probabilities))
    # float32 sums in another order; a block of other weight moves probabilities by far more
    np.testing.assert_allclose(seen[0], seen[1], atol=2e-3)
