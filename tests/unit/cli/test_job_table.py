"""What the screen says of a run that is finished already."""

import json

import pytest

from repkit.cli import job_table


@pytest.mark.parametrize(
    ("now", "note"),
    [
        ({"repkit": "0.1.0", "plugins": ["mine 1.0", "new 3"]}, []),
        ({"repkit": "0.2.0", "plugins": []}, ["note       it was made with repkit 0.1.0, now 0.2.0"]),
        ({"repkit": "0.1.0", "plugins": ["mine 1.1"]}, ["note       it was made with mine 1.0, now 1.1"]),
        ({"repkit": "2", "plugins": ["mine 2"]}, ["note       it was made with repkit 0.1.0, now 2; mine 1.0, now 2"]),
    ],
)
def test_other_versions_than_those_of_the_run_are_told(tmp_path, monkeypatch, now, note):
    (tmp_path / "environment.json").write_text(json.dumps({"repkit": "0.1.0", "plugins": ["gone 4", "mine 1.0"]}))
    monkeypatch.setattr(job_table, "environment", lambda: now)
    first, *more = job_table.finished(tmp_path)
    assert first.startswith(f"run        {tmp_path}  (finished already")
    assert first.endswith("--again trains anew)")
    assert more == note
