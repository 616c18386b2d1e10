"""Tables as people and their programs write them: words for nothing, commas, spellings, headers."""

import unicodedata

import pytest

from repkit.audio.base import VALUE, RowProblems, gender_of
from repkit.audio.cells import is_comma_number, is_missing, number
from repkit.audio.folder import FolderCorpus
from repkit.errors import DataError

FILES = ["a.wav", "b.wav", "c.wav"]
NFD = unicodedata.normalize("NFD", "Müde")


def listed(path, **settings):
    return FolderCorpus(FolderCorpus.Config(name="mine", path=path, **settings)).utterances()


def problems(path, **settings):
    with pytest.raises(DataError) as caught:
        listed(path, **settings)
    return list(caught.value.problems)


# ---------------------------------------------------------------- nothing


@pytest.mark.parametrize("word", ["NA", "nan", "NaN", "None", "n/a", "NULL", "<NA>"])
def test_words_for_nothing_are_nothing_in_every_column(make_folder, word):
    header = "file_name,utterance_id,speaker_id,session,gender,language,emotion,arousal,valence,text,start,end,channel"
    rows = ["a.wav" + 12 * f",{word}", "b.wav,x,s,t,f,en,anger,1,5,hi,0,0.2,0"]
    a, b = listed(make_folder(header, rows, FILES), language="de")
    assert (a.id, a.speaker, a.session, a.gender, a.language) == ("mine/a", None, None, None, "de")
    assert (a.emotion, a.arousal, a.valence, a.text) == (None, None, None, None)
    assert (a.audio.start_s, a.audio.end_s, a.audio.channel) == (0, None, None)
    assert (b.id, b.speaker, b.text, b.audio.end_s) == ("mine/x", "mine/s", "hi", 0.2)


def test_labelled_rows_of_nobody_are_refused_in_one_line(make_folder):
    rows = ["a.wav,NA,anger", "b.wav,nan,fear", "c.wav,NA,anger"]
    one, two = problems(make_folder("file_name,speaker_id,emotion", rows, FILES))
    assert one.startswith(
        "metadata.csv line 2 and 1 more row: speaker_id is 'NA', which counts as empty for 'a.wav', 'c.wav'; expected"
    )
    assert two.startswith("metadata.csv line 3: speaker_id is 'nan', which counts as empty for 'b.wav'; expected")
    (one,) = problems(make_folder("file_name", ["NA"], FILES))
    assert one == "metadata.csv line 2: file_name is 'NA', which counts as empty; expected an audio file"


def test_a_word_for_nothing_may_be_a_label_and_a_language(make_folder):
    rows = ["a.wav,s,none,na", "b.wav,s,anger,NA"]
    root = make_folder("file_name,speaker_id,emotion,language", rows, FILES)
    assert [(u.emotion, u.language) for u in listed(root)] == [(None, "na"), ("anger", None)]
    assert [u.emotion for u in listed(root, emotions={"none": "neutral"})] == ["neutral", "anger"]


def test_cells_by_hand():
    assert [is_missing(word) for word in ("", " ", "Na", "null ", "n a", "0", "no", "nana")] == [True] * 4 + [False] * 4
    assert [gender_of(word) for word in ("NULL", "?", "W")] == [None, None, "female"]
    assert [is_comma_number(text) for text in ("2,75", ",5", "-1,0", "1,234,5", "1,2.5", "2.75", "2,")] == [
        *(True, True, True),
        *(False, False, False, False),
    ]
    assert number("2,75") is None
    assert [number(text, decimal_comma=True) for text in ("2,75", "-,5", "2.75", "1,2,3", "x")] == [
        *(2.75, -0.5, 2.75),
        *(None, None),
    ]


# ---------------------------------------------------------------- numbers


def test_decimal_commas_are_read_where_they_can_be_nothing_else(make_folder):
    rows = ["a.wav;s;2,75;1.5;0,05;0,2", "b.wav;s;4;2;0;NA", "c.wav;s;n.a.;4.5;;"]
    root = make_folder("file_name;speaker_id;arousal;valence;start;end", rows[:2], FILES)
    a, b = listed(root)
    assert (a.arousal, a.valence, a.audio.start_s, a.audio.end_s) == (2.75, 1.5, 0.05, 0.2)
    assert (b.arousal, b.audio.end_s) == (4, None)
    # what is no number is told, and its point forbids no commas
    (line,) = problems(make_folder("file_name;speaker_id;arousal;valence;start;end", rows, FILES))
    assert line.startswith("metadata.csv line 4: arousal is 'n.a.'; expected a rating from 1 to 5")


def test_commas_beside_points_or_between_commas_are_told_once(make_folder):
    mixed = make_folder("file_name\tspeaker_id\tarousal", ["a.wav\ts\t2,75", "b.wav\ts\t2.5"], FILES)
    (line,) = problems(mixed)
    assert line.startswith("metadata.csv line 2: arousal is '2,75'; expected a decimal point")
    values = ["1,5", "2,5", "1,5", "3,5", "4,5", "2,75"]
    rows = [f'{file},s,"{value}",{n / 10}' for n, (file, value) in enumerate(zip(["a.wav"] * 6, values, strict=True))]
    (line,) = problems(make_folder("file_name,speaker_id,arousal,start", rows, FILES))
    assert line.startswith(
        "metadata.csv line 2 and 5 more rows: arousal is '1,5', '2,5', '3,5' and 2 more; expected a decimal point"
    )
    assert line.endswith("write 2.75 for 2,75")


def test_numbers_out_of_range_are_one_line_with_a_few_of_them(make_folder):
    rows = [f"a.wav,s,{n},{n}" for n in (0, 6, 7, 8, 6)]
    (line,) = problems(make_folder("file_name,speaker_id,arousal,start", rows, FILES))[:1]
    assert line.startswith(
        "metadata.csv line 2 and 4 more rows: arousal is '0', '6', '7' and 1 more; expected a rating"
    )


def test_values_do_not_tell_faults_apart():
    found = RowProblems()
    for where, value in (("x", "1"), ("y", "2"), ("z", "1")):
        found.add(where, f"is {VALUE}; no", value)
    found.add("x", "other")
    assert len(found) == 4
    assert found.lines() == ["x and 2 more rows: is '1', '2'; no", "x: other"]


# ---------------------------------------------------------------- spellings


def test_speakers_that_differ_only_in_case_are_refused_with_the_pair(make_folder):
    rows = ["a.wav,P03,anger", "b.wav,p03,fear", "c.wav,p03,anger", "d.wav,P3,anger"]
    (line,) = problems(make_folder("file_name,speaker_id,emotion", rows, [*FILES, "d.wav"]))
    assert line.startswith(
        "metadata.csv line 3 and 1 more row: speaker_id 'p03' differs only in case from 'P03' in line 2, and would be another person"
    )
    rows = ["a.wav,Strauß,anger", "b.wav,Strauss,fear", "c.wav,P3,anger", "d.wav,P03,anger"]
    assert len(listed(make_folder("file_name,speaker_id,emotion", rows, [*FILES, "d.wav"]))) == 4


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_umlauts_match_however_they_are_stored(make_folder, stored):
    def other(text):
        return unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[stored], text)

    def this(text):
        return unicodedata.normalize(stored, text)

    rows = [f"{this('ü.wav')},{this('Jörg')},{this('Müde')}", f"{this('ö.wav')},{other('Jörg')},{this('Müde')}"]
    root = make_folder(f"file_name,speaker_id,{this('Gefühl')}", rows, [other("ü.wav"), other("ö.wav")])
    found = listed(root, columns={"emotion": other("Gefühl")}, emotions={other("Müde"): "boredom"})
    assert [u.emotion for u in found] == ["boredom"] * 2
    assert {u.speaker for u in found} == {"mine/Jörg"}
    assert [u.audio.path.name for u in found] == [other("ü.wav"), other("ö.wav")]


def test_umlauts_match_in_file_names_and_patterns(tmp_path, write_sound):
    write_sound(tmp_path / f"Jo\u0308rg_{NFD}.wav")
    (one,) = listed(tmp_path, pattern=r"^(?P<speaker>\w+)_(?P<emotion>Mü\w+)$", emotions={"Müde": "boredom"})
    assert (one.speaker, one.emotion, one.extra["original_label"]) == ("mine/Jörg", "boredom", "Müde")
    assert listed(tmp_path, pattern=f"_(?P<emotion>{NFD})$", emotions={NFD: "fear"})[0].emotion == "fear"


# ---------------------------------------------------------------- header and rows


def test_a_used_column_that_stands_twice_is_refused(make_folder):
    root = make_folder("file_name,speaker_id,emotion,note,note,emotion", ["a.wav,s,anger,x,y,neutral"], FILES)
    assert problems(root) == ["2 columns are called emotion; expected one, as emotion; keep the one that is meant"]
    root = make_folder("file_name,speaker_id,Emotion,emotion", ["a.wav,s,anger,fear"], FILES)
    (line,) = problems(root)
    assert line.startswith(
        "2 columns are called Emotion or emotion; expected one, as emotion; keep the one that is meant"
    )
    assert line.endswith("--corpus-set mine.columns.emotion=COLUMN")
    assert [listed(root, columns={"emotion": name})[0].emotion for name in ("Emotion", "emotion")] == ["anger", "fear"]
    root = make_folder("file_name,speaker_id,emotion,note,note", ["a.wav,s,anger,x,y"], FILES)
    assert len(listed(root)) == 1


def test_a_row_with_too_few_cells_is_refused_unless_nothing_is_lost(make_folder):
    header = "file_name,speaker_id,emotion,arousal,note"
    root = make_folder(header, ["a.wav,s", "b.wav,s,anger", "c.wav,s,fear,3"], FILES)
    one, two = problems(root)
    assert one.startswith("metadata.csv line 2: has fewer cells than the header, none for emotion, arousal; expected")
    assert two.startswith("metadata.csv line 3: has fewer cells than the header, none for arousal; expected")
    root = make_folder(header, ["a.wav,s,,,", "c.wav,s,fear,3"], FILES)
    assert [(u.emotion, u.extra) for u in listed(root)] == [(None, {}), ("fear", {})]


@pytest.mark.parametrize("first", ["sep=;", "SEP=|", '"sep=;"', "sep=\t", "sep=,", "sep=;;;"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_first_line_of_excel_states_the_delimiter(make_folder, first, end):
    delimiter = first.strip('"')[4]
    cells = [["file_name", "speaker_id", "emotion"], ["a.wav", "s", "anger"], ["b.wav", "s", "angr"]]
    root = make_folder("", [], FILES)
    text = end.join([first, *(delimiter.join(row) for row in cells), ""])
    (root / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (line,) = problems(root)
    assert line.startswith("metadata.csv line 4: emotion 'angr'")
    assert [u.emotion for u in listed(root, emotions={"angr": "fear"})] == ["anger", "fear"]
