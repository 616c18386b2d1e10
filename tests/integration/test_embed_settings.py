"""repkit embed --encoder-set: settings of an encoder from the command line to the store's name and provenance."""

from cli_helpers import cli, ok, write_corpus

from repkit.store import open_store


def test_settings_of_an_encoder_from_the_command_line(tmp_path):
    corpus, out = f"toy={write_corpus(tmp_path / 'toy')}", tmp_path / "emb"
    words = ("embed", "--encoder", "functionals", "--corpus", corpus, "--out", out)
    ok(*words)
    ok(*words, "--encoder-set", "level=removed", "--encoder-set", "trim_db=30")
    assert {path.name for path in out.iterdir()} == {"functionals", "functionals-level-free-trim_db_30"}
    source = open_store(out / "functionals-level-free-trim_db_30" / "toy").spec.source
    assert (source["settings"]["level"], source["settings"]["trim_db"]) == ("removed", 30.0)
    for given, code, said in (
        ("trim=30", 2, "encoder functionals.trim: unknown key"),
        ("level=quiet", 2, "encoder functionals.level: got 'quiet'"),
        ("trim_db", 2, "--encoder-set trim_db: expected KEY=VALUE"),
    ):
        done = cli(*words, "--encoder-set", given)
        assert (done.code, said in " ".join(done.err.split())) == (code, True), done.err
    done = cli(*words[:2], "functionals:mel", *words[3:], "--encoder-set", "parts=prosody")
    assert (done.code, "decides parts by itself" in " ".join(done.err.split())) == (2, True)
    assert len(list(out.iterdir())) == 2
