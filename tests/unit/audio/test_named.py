"""Official layouts on file names: files are empty, since listing decodes no audio."""

import zipfile

import pytest

from repkit.audio.named import NamedCorpus
from repkit.audio.named_specs import SPECS, msp_improv
from repkit.audio.open import open_corpus
from repkit.errors import DataError, RepkitWarning


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listed(name, root, variant=None):
    corpus = NamedCorpus(NamedCorpus.Config(name=name, path=root, variant=variant))
    with pytest.warns(RepkitWarning):  # a handful of files never meets the published counts
        return {u.id.split("/", 1)[1]: u for u in corpus.utterances()}, corpus


# corpus, file below the folder, then name, speaker, gender, session, language, emotion, extra
CASES = [
    ("emodb", "wav/03a01Wa.wav", "03a01Wa", "03", "male", None, "de", "anger", {"sentence": "a01", "repetition": "a"}),
    ("emodb", "wav/16b10Fb.WAV", "16b10Fb", "16", "female", None, "de", "happiness", {}),
    ("emodb", "08b02Aa.wav", "08b02Aa", "08", "female", None, "de", "fear", {}),
    ("emodb", "15a02Lb.wav", "15a02Lb", "15", "male", None, "de", "boredom", {}),
    ("ravdess", "Actor_12/03-01-06-01-02-01-12.wav", "03-01-06-01-02-01-12", "12", "female", None, "en", "fear",
     {"intensity": "normal", "channel": "speech"}),
    ("ravdess", "Actor_01/03-01-08-02-02-01-01.wav", "03-01-08-02-02-01-01", "01", "male", None, "en", "surprise",
     {"intensity": "strong"}),
    ("savee", "AudioData/DC/sa01.wav", "DC_sa01", "DC", "male", None, "en", "sadness", {"sentence": "01"}),
    ("savee", "JE/a15.wav", "JE_a15", "JE", "male", None, "en", "anger", {}),
    ("savee", "KL_su03.wav", "KL_su03", "KL", "male", None, "en", "surprise", {}),
    ("savee", "JKn30.wav", "JK_n30", "JK", "male", None, "en", "neutral", {}),
    ("tess", "OAF_back_angry.wav", "OAF_back_angry", "OAF", "female", None, "en", "anger", {"word": "back"}),
    ("tess", "YAF_dog_ps.wav", "YAF_dog_ps", "YAF", "female", None, "en", "surprise", {"original_label": "ps"}),
    ("tess", "OA_bite_neutral.wav", "OAF_bite_neutral", "OAF", "female", None, "en", "neutral", {}),
    ("emovo", "f1/dis-f1-b1.wav", "dis-f1-b1", "f1", "female", None, "it", "disgust", {"sentence": "b1"}),
    ("emovo", "m3/pau-m3-n5.wav", "pau-m3-n5", "m3", "male", None, "it", "fear", {}),
    ("crema_d", "AudioWAV/1001_DFA_ANG_XX.wav", "1001_DFA_ANG_XX", "1001", None, None, "en", "anger", {"level": "XX"}),
    ("cafe", "CaFE_48k/Colère/Fort/01-C-2-1.wav", "01-C-2-1", "01", "male", None, "fr", "anger", {"intensity": "2"}),
    ("cafe", "12-P-1-6.aiff", "12-P-1-6", "12", "female", None, "fr", "fear", {}),
    ("demos", "DEMOS/PR_m_02_rab01a.wav", "PR_m_02_rab01a", "02", "male", None, "it", "anger",
     {"portrayal": "prototypical"}),
    ("demos", "DEMOS/NP_f_01_col12a.wav", "NP_f_01_col12a", "01", "female", None, "it", "guilt",
     {"portrayal": "non-prototypical"}),
    ("demos", "PR_m_02_rab01.wav", "PR_m_02_rab01", "02", "male", None, "it", "anger", {}),
    ("emofilm", "wav_corpus/f_ans001en.wav", "f_ans001en", None, "female", "en", "en", "fear", {"number": "001"}),
    ("emofilm", "m_gio010it.wav", "m_gio010it", None, "male", "it", "it", "happiness", {}),
    ("enterface", "subject 1/anger/sentence 1/s1_an_1.wav", "s1_an_1", "s1", None, None, "en", "anger", {}),
    ("enterface", "subject 11/fear/sentence 2/s12_fe_2.wav", "s11_fe_2", "s11", None, None, "en", "fear", {}),
    ("enterface", "subject 16/surprise/s16_su_3avi.wav", "s16_su_3", "s16", None, None, "en", "surprise", {}),
    ("enterface", "subject 3/happiness/s_3_ha_4.wav", "s3_ha_4", "s3", None, None, "en", "happiness", {}),
    ("jl", "female1_angry_10a_1.wav", "female1_angry_10a_1", "female1", "female", None, "en", "anger", {"take": "1"}),
    ("jl", "male2_apologetic_3b_2.wav", "male2_apologetic_3b_2", "male2", "male", None, "en", "apology", {}),
    ("jl", "male1_excited_3b_2.wav", "male1_excited_3b_2", "male1", "male", None, "en", "excitement", {}),
    ("portuguese", "10pA_angry1.wav", "10pA_angry1", "A", "female", None, "pt", "anger",
     {"material": "pseudo-sentence"}),
    ("portuguese", "3sB_surprise2.wav", "3sB_surprise2", "B", "female", None, "pt", "surprise",
     {"material": "sentence"}),
    ("shemo", "female/F01A01.wav", "F01A01", "F01", "female", None, "fa", "anger", {}),
    ("shemo", "male/M56F02.wav", "M56F02", "M56", "male", None, "fa", "fear", {}),
    ("shemo", "female/F31W05.wav", "F31W05", "F31", "female", None, "fa", "surprise", {}),
    ("urdu", "Angry/SM1_F10_A010.wav", "SM1_F10_A010", "SM1", "male", None, "ur", "anger", {}),
    ("urdu", "Sad/SF10_F1_S01.wav", "SF10_F1_S01", "SF10", "female", None, "ur", "sadness", {}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::repkit.errors.RepkitWarning")
@pytest.mark.parametrize("case", CASES, ids=[f"{c[0]}-{c[2]}" for c in CASES])
def test_grammar(tmp_path, case):
    corpus, file, name, speaker, gender, session, language, emotion, extra = case
    (one,) = open_corpus(corpus, str(touch(tmp_path, file))).utterances()
    prefixed = [None if x is None else f"{corpus}/{x}" for x in (name, speaker, session)]
    assert [one.id, one.speaker, one.session] == prefixed
    assert (one.gender, one.language, one.emotion, one.corpus) == (gender, language, emotion, corpus)
    assert extra.items() <= one.extra.items()
    assert one.audio.path == tmp_path / file


def test_every_grammar_has_a_case_and_every_example_fits():
    by_names = {name for name, spec in SPECS.items() if spec.reader is None}
    assert by_names == {case[0] for case in CASES}
    assert set(SPECS) - by_names == {"iemocap", "msp_improv", "smartkom", "epst"}
    assert len(SPECS) == 18


@pytest.mark.filterwarnings("ignore::repkit.errors.RepkitWarning")
@pytest.mark.parametrize("name", sorted({c[0] for c in CASES}))
def test_examples_in_the_specs_fit_their_grammar(tmp_path, name):
    assert len(open_corpus(name, str(touch(tmp_path, SPECS[name].example))).utterances()) == 1


def test_published_counts_are_compared_and_only_warned_of(tmp_path):
    touch(tmp_path, "03a01Wa.wav", "03a01Fa.wav")
    with pytest.warns(RepkitWarning) as caught:
        open_corpus("emodb", str(tmp_path)).utterances()
    lines = [str(w.message) for w in caught]
    assert "corpus emodb: 2 utterances found; expected 535" in lines[0]
    assert "corpus emodb: 1 speakers found; expected 10" in lines[1]
    assert "anger 1 (expected 127)" in lines[2]


def test_nothing_fitting_says_what_was_found_and_what_fits(tmp_path):
    touch(tmp_path, "clip1.wav", "clip2.wav", "readme.txt")
    with pytest.raises(DataError) as caught:
        open_corpus("emodb", str(tmp_path)).utterances()
    text = str(caught.value)
    assert "found 2 audio file(s), 0 matched because no name (such as clip1.wav, clip2.wav)" in text
    assert "wav/03a01Wa.wav" in text
    assert "http://emodb.bilderbar.info" in text
    videos = touch(tmp_path / "v", "subject 1/anger/sentence 1/s1_an_1.avi")
    with pytest.raises(DataError, match=r"found 1 file\(s\), 0 matched because none ends in .*ffmpeg"):
        open_corpus("enterface", str(videos)).utterances()


def test_strangers_are_named(tmp_path):
    touch(tmp_path, "03a01Wa.wav", "notes/hello.wav", "._03a01Wa.wav")
    _, corpus = listed("emodb", tmp_path)
    assert corpus.notes == ["corpus emodb: 1 of 2 audio files are left alone, for example notes/hello.wav"]


def test_ravdess_song_is_a_variant(tmp_path):
    touch(tmp_path, "a/03-01-05-01-01-01-01.wav", "b/03-02-05-01-01-01-01.wav")
    assert list(listed("ravdess", tmp_path)[0]) == ["03-01-05-01-01-01-01"]
    both, _ = listed("ravdess", tmp_path, "speech_and_song")
    assert both["03-02-05-01-01-01-01"].extra["channel"] == "song"


def test_second_copies(tmp_path):
    # an archive unpacked twice is harmless, two different files for one utterance are not
    touch(tmp_path, "a/03-01-05-01-01-01-01.wav", "b/a/03-01-05-01-01-01-01.wav")
    found, corpus = listed("ravdess", tmp_path)
    assert len(found) == 1
    assert "1 second copies" in corpus.notes[0]
    (tmp_path / "a/03-01-05-01-01-01-01.wav").write_bytes(b"other")
    with pytest.raises(DataError, match="two different files for one utterance"):
        open_corpus("ravdess", str(tmp_path)).utterances()


def test_crema_d_prefers_mp3_drops_the_empty_clip_and_reads_genders(tmp_path):
    touch(tmp_path, "AudioWAV/1076_MTI_SAD_XX.wav", "AudioWAV/1001_DFA_ANG_XX.wav", "AudioMP3/1001_DFA_ANG_XX.mp3")
    (tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav").write_bytes(b"x")
    (tmp_path / "VideoDemographics.csv").write_text("ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not\n")
    found, corpus = listed("crema_d", tmp_path)
    assert list(found) == ["1001_DFA_ANG_XX"]
    assert found["1001_DFA_ANG_XX"].audio.path.suffix == ".mp3"
    assert found["1001_DFA_ANG_XX"].gender == "male"
    assert any("1076_MTI_SAD_XX.wav is left out: has no sound" in note for note in corpus.notes)


def test_enterface_subject_6_is_dropped_and_11_is_not_12(tmp_path):
    touch(tmp_path, "subject 11/s12_an_1.wav", "subject 12/s12_an_1.wav", "subject 6/s6_an_1.wav")
    (tmp_path / "subject 12/s12_an_1.wav").write_bytes(b"another")
    assert set(listed("enterface", tmp_path)[0]) == {"s11_an_1", "s12_an_1"}


def xlsx(path, sheets):
    """Write a minimal spreadsheet: shared strings in the first sheet, inline strings in the others."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    shared = sorted({cell for row in sheets["female"] for cell in row})
    with zipfile.ZipFile(path, "w") as archive:
        names = "".join(f'<sheet name="{name}" sheetId="{i}" r:id="rId{i}"/>' for i, name in enumerate(sheets, start=1))
        relation = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
        archive.writestr("xl/workbook.xml", f"<workbook {main} {relation}><sheets>{names}</sheets></workbook>")
        links = "".join(f'<Relationship Id="rId{i + 1}" Target="worksheets/s{i}.xml"/>' for i in range(len(sheets)))
        archive.writestr("xl/_rels/workbook.xml.rels", f"<Relationships>{links}</Relationships>")
        items = "".join(f"<si><t>{text}</t></si>" for text in shared)
        archive.writestr("xl/sharedStrings.xml", f"<sst {main}>{items}</sst>")
        for i, (name, rows) in enumerate(sheets.items()):
            body = ""
            for r, row in enumerate(rows, start=1):
                cells = ""
                for column, text in zip("ABC", row):
                    if name == "female":
                        cells += f'<c r="{column}{r}" t="s"><v>{shared.index(text)}</v></c>'
                    else:
                        cells += f'<c r="{column}{r}" t="inlineStr"><is><t>{text}</t></is></c>'
                body += f'<row r="{r}">{cells}</row>'
            archive.writestr(f"xl/worksheets/s{i}.xml", f"<worksheet {main}><sheetData>{body}</sheetData></worksheet>")


def test_emofilm_legend(tmp_path):
    touch(tmp_path, "wav_corpus/f_ans001en.wav", "wav_corpus/m_rab002es.wav", "wav_corpus/m_rab003es.wav")
    head = ["file", "film", "speaker"]
    xlsx(
        tmp_path / "f_m_corpus_it_es_en_legend.xlsx",
        {
            "female": [head, ["f_ans001en", "Poltergeist", "Giuppi Izzo"]],
            "male": [head, ["m_rab002es", "Brokeback", "??"], ["m_rab003es", "Brokeback", "Camilo Garcia"]],
        },
    )
    found, corpus = listed("emofilm", tmp_path / "wav_corpus")
    assert found["f_ans001en"].speaker == "emofilm/giuppy izzo"
    assert found["m_rab002es"].speaker == "emofilm/unknown m_rab002es"
    assert found["m_rab003es"].speaker == "emofilm/camilo garcía"
    assert found["m_rab002es"].session == "emofilm/es"
    assert found["f_ans001en"].extra["film"] == "poltergeist"
    assert "1 clips have no known actor" in corpus.notes[0]


def test_emofilm_without_its_legend_says_what_is_needed(tmp_path):
    touch(tmp_path, "wav_corpus/f_ans001en.wav")
    found, corpus = listed("emofilm", tmp_path / "wav_corpus")
    assert found["f_ans001en"].speaker is None
    assert "f_m_corpus_it_es_en_legend.xlsx is not there" in corpus.notes[0]
    assert "columns file, film and speaker" in corpus.notes[0]


IEMOCAP = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.7500, 1.5000]
C-E2:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M001\texc\t[4.5000, 4.0000, 3.0000]
[12.0000 - 13.0000]\tSes01F_impro01_M002\txxx\t[2.0000, 2.0000, 3.0000]
[14.0000 - 15.0000]\tSes01F_impro01_M003\tang\t[1.0000, 5.0000, 5.0000]
"""


def test_iemocap_talker_is_the_last_letter_and_ratings_are_valence_first(tmp_path):
    session = tmp_path / "IEMOCAP_full_release" / "Session1"
    labels = session / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text(IEMOCAP)
    (labels.parent / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07")
    texts = session / "dialog" / "transcriptions" / "Ses01F_impro01.txt"
    texts.parent.mkdir()
    texts.write_text("Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\n")
    touch(session / "sentences/wav/Ses01F_impro01", *(f"Ses01F_impro01_{n}.wav" for n in ("F000", "M001", "M002")))
    found, corpus = listed("iemocap", tmp_path)
    neutral, excited, split = (found[f"Ses01F_impro01_{n}"] for n in ("F000", "M001", "M002"))
    assert (neutral.speaker, neutral.gender, neutral.session) == ("iemocap/01F", "female", "iemocap/01")
    assert (excited.speaker, excited.gender, excited.session) == ("iemocap/01M", "male", "iemocap/01")
    assert (neutral.valence, neutral.arousal, neutral.extra["dominance"]) == (2.5, 2.75, "1.5000")
    assert (neutral.text, neutral.extra["scene"]) == ("Excuse me.", "improvised")
    assert (excited.emotion, split.emotion) == ("excitement", "unknown")
    assert "1 labelled turns have no sound file, for example Ses01F_impro01_M003.wav" in corpus.notes[0]
    labels.write_text(IEMOCAP.replace("\tang\t", "\tangr\t"))
    with pytest.raises(DataError, match="label 'angr'; expected one of ang, hap"):
        open_corpus("iemocap", str(tmp_path)).utterances()
    with pytest.raises(DataError, match="no label file"):
        open_corpus("iemocap", str(touch(tmp_path / "empty", "a.wav"))).utterances()


MSP = """UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:{a1}; V:3.2; D:2.8 ; N:3.0;
1234; Neutral; A:3.0; V:3.0; D:3.0; N:3.0;
1234; Neutral; A:3.0; V:3.0; D:3.0; N:3.0;

UTD-IMPROV-S01A-F01-S-FM02.avi; A; A:{a2}; V:1.5; D:2.8 ; N:3.0;
UTD-IMPROV-S20S-M06-T-MF03.avi; S; A:{a3}; V:NaN; D:2.8 ; N:NaN;
UTD-IMPROV-S20H-M06-R-MF04.avi; X; A:NaN; V:2; D:2.8 ; N:3.0;
"""
MSP_FILES = (
    "session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav",
    "session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM02.wav",
    "session6/S20S/T/MSP-IMPROV-S20S-M06-T-MF03.wav",
    "session6/S20H/R/MSP-IMPROV-S20H-M06-R-MF04.wav",
)


def test_msp_improv_majority_and_intended(tmp_path):
    touch(tmp_path, *MSP_FILES)
    (tmp_path / "Evaluation.txt").write_text(MSP.format(a1=2.4, a2=4.5, a3=1.5))
    found, corpus = listed("msp_improv", tmp_path)
    first, angry, sad, none = (found[f"MSP-IMPROV-{n}"] for n in ("S01A-F01-P-FM01", "S01A-F01-S-FM02", "S20S-M06-T-MF03", "S20H-M06-R-MF04"))  # fmt: skip
    assert (first.speaker, first.gender, first.session) == ("msp_improv/F01", "female", "msp_improv/01")
    assert (sad.speaker, sad.gender, sad.session) == ("msp_improv/M06", "male", "msp_improv/06")
    assert [u.emotion for u in (first, angry, sad, none)] == ["neutral", "anger", "sadness", "unknown"]
    assert (first.arousal, first.valence, sad.valence, none.arousal) == (2.4, 3.2, None, None)
    assert (first.extra["recording"], none.extra["recording"]) == ("natural", "read")
    assert corpus.notes == []
    intended, _ = listed("msp_improv", tmp_path, "intended")
    assert [u.emotion for u in intended.values()] == ["anger", "anger", "happiness", "sadness"]
    assert intended["MSP-IMPROV-S01A-F01-P-FM01"].extra["majority"] == "neutral"


def test_msp_improv_intended_is_held_against_the_sums_of_gao(tmp_path, monkeypatch):
    touch(tmp_path, *MSP_FILES)
    (tmp_path / "Evaluation.txt").write_text(MSP.format(a1=2.4, a2=4.5, a3=1.5))
    # the four clips are meant as A, A, S and H
    fits = {("anger", "sadness"): 3, ("happiness", "neutral"): 1, ("neutral", "sadness"): 1, ("anger", "happiness"): 3}
    monkeypatch.setattr(msp_improv, "INTENDED_SUMS", fits)
    assert listed("msp_improv", tmp_path, "intended")[1].notes == []
    monkeypatch.setattr(msp_improv, "INTENDED_SUMS", {**fits, ("anger", "sadness"): 4})
    (note,) = listed("msp_improv", tmp_path, "intended")[1].notes
    assert "anger + sadness 3 (expected 4)" in note
    assert "neutral" not in note
    assert listed("msp_improv", tmp_path)[1].notes == []


def test_msp_improv_turns_a_downward_activation_scale_round(tmp_path):
    touch(tmp_path, *MSP_FILES)
    (tmp_path / "Evaluation.txt").write_text(MSP.format(a1=2.5, a2=1.5, a3=4.5))
    found, corpus = listed("msp_improv", tmp_path)
    assert found["MSP-IMPROV-S01A-F01-S-FM02"].arousal == 4.5
    assert found["MSP-IMPROV-S01A-F01-P-FM01"].arousal == 3.5
    assert "turned round" in corpus.notes[0]


PAR = """LHD: Partitur 1.3
SAM: 16000
ORT: 0 hallo
USH:\t0\t16000\tNeutral\t1
USH:\t16000\t32000\t"Arger/Miserfolg\t2
USH:\t48000\t16000\tRestklasse
TRN: 8000 16000 0,1 001
TRN: 4000 16000 0,1 002
TRN: 50000 8000 0 003
TRN: 90000 8000 0 004
"""


def test_smartkom_takes_the_state_that_covers_most_of_a_turn(tmp_path):
    session = tmp_path / "SK-Public" / "w001_pk"
    touch(session, "w001_pkd.wav", "w001_pk_SMA.par")
    (session / "w001_pk_AAA.par").write_bytes(PAR.encode("latin-1"))
    found, _ = listed("smartkom", tmp_path)
    assert {name: u.emotion for name, u in found.items()} == {
        "w001_pk_AAA_000": "neutral",  # 8000 samples each: the earlier one
        "w001_pk_AAA_001": "neutral",  # 12000 of 16000
        "w001_pk_AAA_002": "other",
    }
    turn = found["w001_pk_AAA_000"]
    assert (turn.speaker, turn.session) == ("smartkom/AAA", "smartkom/w001_pk")
    assert (turn.audio.start_s, turn.audio.end_s, turn.audio.path.name) == (0.5, 1.5, "w001_pkd.wav")
    (session / "w001_pk_AAA.par").write_text(PAR.replace("TRN: 8000", "TRN: 12000"))
    assert listed("smartkom", tmp_path)[0]["w001_pk_AAA_000"].emotion == "anger"


EPST = """0.10 5.20 A: [MISC]
5.20 6.00 A: Emotion category hot anger
6.00 7.25 A: hot anger, Two thousand four
7.50 8.00 A: (cough)
8.10 9.00 A: happy, March twenty-first
9.00 9.50 A: huh
"""


def test_epst_reads_labelled_spans_of_the_first_channel(tmp_path):
    touch(tmp_path, "speech/cc_001.sph")
    (tmp_path / "transcr").mkdir()
    (tmp_path / "transcr" / "cc_001.txt").write_text(EPST)
    found, corpus = listed("epst", tmp_path)
    angry, happy = found["cc_001_0006000"], found["cc_001_0008100"]
    assert (angry.emotion, angry.text, angry.speaker) == ("hot_anger", "Two thousand four", "epst/cc")
    assert (angry.audio.start_s, angry.audio.end_s, angry.audio.channel) == (6.0, 7.25, 0)
    assert happy.emotion == "happiness"
    assert len(found) == 2
    assert "1 transcript lines are left alone, for example cc_001.txt line 6" in corpus.notes[0]


def test_a_copy_with_metadata_csv_is_read_by_it_with_the_same_counts(tmp_path):
    touch(tmp_path, "data/03a01Wa.flac")
    (tmp_path / "metadata.csv").write_text("file_name,speaker_id,emotion\ndata/03a01Wa.flac,03,anger\n")
    found, corpus = listed("emodb", tmp_path)
    assert found["03a01Wa"].language == "de"
    assert corpus.expected["utterances"] == 535


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "count"), [("emodb", 535), ("ravdess", 1440), ("emovo", 588), ("urdu", 400)])
def test_real_corpora_meet_the_published_counts(real_data, name, count):
    # RepkitWarning is an error in tests: a mismatch would fail
    corpus = open_corpus(name, str(real_data / name))
    by_table = corpus.utterances()
    assert len(by_table) == count
    assert corpus.fingerprint() == open_corpus(name, str(real_data / name)).fingerprint()
    # the grammar of the official names agrees with the table
    by_name = {u.id: u for u in NamedCorpus(NamedCorpus.Config(name=name, path=real_data / name / "data")).utterances()}
    assert len(by_name) == count
    for u in by_table:
        same = by_name[u.id]
        assert (same.speaker, same.gender, same.emotion, same.language) == (u.speaker, u.gender, u.emotion, u.language)
