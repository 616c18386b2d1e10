import json

import pandas as pd
import pytest

from repkit.evaluation.differences import pairs_of
from repkit.evaluation.run_files import read_run_files

DANN = {"objectives": [{"name": "domain_adversarial"}]}
WIDE = {"model": {"width": 64}}


def read(path, conditions, **recipe):
    path.mkdir(exist_ok=True)
    protocol = {"id": "p", "parts": {"views": {"emotion": ["a"]}}, "folds": [{"name": "f"}]}
    (path / "protocol.json").write_text(json.dumps(protocol))
    (path / "resolved.json").write_text(json.dumps({"seeds": [0], "conditions": conditions, **recipe}))
    pd.DataFrame({"id": ["x/1"]}).to_parquet(path / "utterances.parquet")
    return read_run_files(path)


def test_roles_of_vectors_alone(tmp_path):
    files = read(
        tmp_path,
        [
            {"name": "Li", "embeddings": "out/li"},
            {"name": "stats-1", "embeddings": "out/x"},
            {"name": "U", "embeddings": "out/untrained-ae/emodb"},
        ],
    )
    assert files.roles == {"BL": "baseline", "Li": "vector", "stats-1": "control", "U": "control"}
    assert files.reference == "BL"


def test_roles_of_systems(tmp_path):
    conditions = [
        {"name": "plain", "set": {"target_audio": "none"}},
        {"name": "dann", "embeddings": None, "set": DANN},
        {"name": "bare"},
        {"name": "Li", "embeddings": "out/li"},
        {"name": "dann.Li", "embeddings": "out/li", "set": DANN},
        {"name": "dann.stats", "embeddings": "out/s", "set": DANN},
        {"name": "stats", "embeddings": "out/s"},
        {"name": "other.Li", "embeddings": "out/li", "set": WIDE},
        {"name": "odd", "embeddings": "out/li", "set": DANN},
    ]
    files = read(tmp_path, conditions, baseline=False, reference="plain")
    assert files.roles == {
        "plain": "baseline", "dann": "system", "bare": "system", "Li": "vector", "dann.Li": "vector",
        "dann.stats": "control", "stats": "control", "other.Li": "vector", "odd": "vector",
    }  # fmt: skip
    assert files.infos["dann.Li"].twin == "dann"
    assert files.infos["other.Li"].twin is None
    assert files.infos["odd"].twin == "dann"  # by its settings, where the name does not tell
    pairs = pairs_of(files.infos)
    assert [pair for pair in pairs if pair[0] == "dann.Li"] == [
        ("dann.Li", "plain", "baseline"), ("dann.Li", "dann", "own_baseline"), ("dann.Li", "dann.stats", "control"),
    ]  # fmt: skip
    # a control shows something only under the same settings
    assert [pair for pair in pairs if pair[0] == "Li"] == [("Li", "plain", "baseline"), ("Li", "stats", "control")]
    assert [pair for pair in pairs if pair[0] == "other.Li"] == [("other.Li", "plain", "baseline")]
    assert ("dann", "plain", "baseline") in pairs
    assert ("bare", "plain", "baseline") in pairs
    assert ("dann.stats", "dann", "own_baseline") in pairs
    assert not [pair for pair in pairs if pair[0] == "plain" or pair[0] == pair[1]]
    assert len(pairs) == len(set(pairs))


def test_no_own_baseline_beside_the_reference_itself(tmp_path):
    conditions = [{"name": "dann", "set": DANN}, {"name": "dann.Li", "embeddings": "out/li", "set": DANN}]
    files = read(tmp_path, conditions, baseline=False, reference="dann")
    assert pairs_of(files.infos) == [("dann.Li", "dann", "baseline")]


@pytest.mark.parametrize(
    ("conditions", "reference"),
    [
        ([{"name": "Li", "embeddings": "e"}, {"name": "dann", "set": DANN}, {"name": "bare"}], "bare"),
        ([{"name": "Li", "embeddings": "e"}, {"name": "dann", "set": DANN}], "dann"),
        ([{"name": "Li", "embeddings": "e"}], None),
    ],
)
def test_without_its_reference_a_run_takes_one_without_vector(tmp_path, conditions, reference):
    files = read(tmp_path, conditions, baseline=False, reference="BL")
    assert files.reference == reference
    assert list(files.roles.values()).count("baseline") == (reference is not None)


def test_unplanned_conditions_on_disk_are_seen(tmp_path):
    (tmp_path / "jobs" / "extra" / "seed_7").mkdir(parents=True)
    files = read(tmp_path, [])
    assert files.conditions == ("BL", "extra")
    assert files.seeds == (0, 7)
    assert files.roles["extra"] == "vector"
