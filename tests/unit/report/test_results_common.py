"""The scripts of docs/results find the run of a step by its command, or by one that was told it is finished already."""

import importlib.util
import json

import pytest


@pytest.fixture
def common(repo_root):
    spec = importlib.util.spec_from_file_location("results_common", repo_root / "docs/results/common.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["stage_one", "scale", "cross_corpus", "neumann2019"])
def test_a_page_of_encoders_begins_with_its_introduction_and_names_the_speech_they_heard(repo_root, name):
    intro, page = ((repo_root / f"docs/results/{name}{end}.md").read_text(encoding="utf-8") for end in ("_intro", ""))
    before, _, after = intro.rstrip().partition("{ser_epochs}")
    assert page.startswith(before)
    assert after in page
    assert "](librispeech_small.md)" in before


def made(work, name, command, state="done", asked=()):
    folder = work / "runs" / "tiny" / name
    folder.mkdir(parents=True)
    (folder / "command.txt").write_text(f"repkit {command}\n")
    (folder / "status.json").write_text(json.dumps({"state": state}))
    events = [{"event": "finished"}, *({"event": "asked again", "command": f"repkit {text}"} for text in asked)]
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def test_a_step_is_found_under_every_command_that_stands_for_its_run(common, tmp_path):
    step = ["train-ser", "--recipe", "/elsewhere/a.toml", "--corpus", "x=new place"]
    assert common.finished(tmp_path, step) is None
    made(tmp_path, "20260101T000000Z_aaaaaaaa", "train-ser --recipe here/a.toml --corpus x=old")
    assert common.finished(tmp_path, step) is None
    moved = made(
        tmp_path, "20260102T000000Z_bbbbbbbb", "train-ser --recipe here/a.toml --corpus x=old",
        asked=["train-ser --recipe here/a.toml --corpus 'x=new place'"],
    )  # fmt: skip
    assert common.finished(tmp_path, step) == moved
    made(tmp_path, "20260103T000000Z_cccccccc", "train-ser --recipe a.toml --corpus 'x=new place'", state="interrupted")
    assert common.finished(tmp_path, step) == moved
    newer = made(tmp_path, "20260104T000000Z_dddddddd", "train-ser --recipe a.toml --corpus 'x=new place'")
    (newer / "log.jsonl").unlink()
    assert common.finished(tmp_path, step) == newer
