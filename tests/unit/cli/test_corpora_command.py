"""``repkit corpora show`` and ``check``: refusals and what is listed."""

import numpy as np
import soundfile
from typer.testing import CliRunner

from repkit.cli import app


def run(*arguments):
    return CliRunner().invoke(app, ["corpora", *map(str, arguments)])


def test_show_wants_at_least_one_utterance():
    for n in ("0", "-1"):
        done = run("show", "synthetic_a", "--n", n)
        assert done.exit_code == 2
        assert "synthetic_a/" not in done.output


def test_check_lists_the_worst_clipped_utterances_first(tmp_path):
    tone = (0.9 * np.sin(np.arange(4000))).astype("float32")
    for i in range(12):
        loud = tone.copy()
        loud[: 40 * (i + 1)] = 1.0  # 1 % more each
        soundfile.write(tmp_path / f"u{i:02d}.wav", loud, 16000)
    done = run("check", f"mine={tmp_path}", "--corpus-set", "mine.pattern=(?P<id>.+)", "--workers", "1")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    place = lines.index("clipped, their loudest parts cut off at full scale (12):")
    assert lines[place + 1] == "  - mine/u11: 12.0 % of its samples"
    assert lines[place + 10] == "  - mine/u02: 3.0 % of its samples"
    assert lines[place + 11] == "  - and 2 more"
    assert any("no utterance has an emotion or a rating" in line for line in lines)
