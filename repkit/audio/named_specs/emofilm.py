"""EmoFilm, emotional speech from films in English, Italian and Spanish (Parada-Cabaleiro et al., Interspeech 2018)."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from repkit.api import Utterance
from repkit.audio.named_spec import NamedSpec
from repkit.audio.spreadsheet import read_xlsx

_LEGEND = "f_m_corpus_it_es_en_legend"

# misspellings in the legend (Keesing 2020's reader)
_SPEAKERS = {
    "camilo garcia": "camilo garcía",
    "constantino romero+6": "constantino romero",
    "giuppi izzo": "giuppy izzo",
    "maria moscardo": "maría moscardó",
    "massimo de ambrosio": "massimo de ambrosis",
    "robert duval": "robert duvall",
    "xavier fernandez": "xavier fernández",
}


def add_speakers(root: Path, utterances: list[Utterance]) -> tuple[list[Utterance], list[str]]:
    """Return the utterances with the actors of the legend (columns file, film, speaker).

    The legend is the spreadsheet of the download, beside the folder of clips or in it, or a CSV saved from it. A clip
    whose actor the legend marks with question marks becomes a speaker of its own (Keesing 2020's reader).
    """
    places = [folder / f"{_LEGEND}{suffix}" for folder in (root, root.parent) for suffix in (".csv", ".xlsx")]
    legend = next((place for place in places if place.is_file()), None)
    if legend is None:
        return utterances, [
            f"{_LEGEND}.xlsx is not there; expected it, or a CSV saved from it with the columns file, film and speaker, in "
            f"{root} or beside it: without it no clip has a speaker, and nothing can be tested"
        ]
    if legend.suffix == ".xlsx":
        rows = [row for sheet in read_xlsx(legend).values() for row in sheet]
    else:
        with legend.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    actors: dict[str, str] = {}
    films: dict[str, str] = {}
    for row in rows:
        clean = {(k or "").strip().casefold(): (v or "").strip() for k, v in row.items()}
        stem = clean.get("file", "").removesuffix(".wav")
        actor = clean.get("speaker", "").casefold()
        films[stem] = clean.get("film", "").casefold()
        if actor.strip("?"):
            actors[stem] = _SPEAKERS.get(actor, actor)
    done, unknown = [], 0
    for u in utterances:
        stem = u.id.split("/", 1)[1]
        actor = actors.get(stem, "")
        unknown += not actor
        speaker = actor or f"unknown {stem}"
        extra = {**u.extra, **({"film": films[stem]} if films.get(stem) else {})}
        done.append(replace(u, speaker=f"{u.corpus}/{speaker}", extra=extra))
    notes = [
        f"{unknown} clips have no known actor in {legend.name} and count as speakers of their own, though some may be of the "
        "same actor: test by language (--set protocol.name=leave_one_session_out)"
    ]
    return done, notes if unknown else []


SPEC = NamedSpec(
    name="emofilm",
    title="EmoFilm",
    language=None,
    licence="on request, for research",
    home="https://zenodo.org/record/1326428",
    source="Keesing 2020's reader (names, legend, misspellings); not checked on the files themselves",
    example="wav_corpus/f_ans001en.wav",
    pattern=r"(?P<gender>[fm])_(?P<emotion>ans|dis|gio|rab|tri)(?P<number>\d+)(?P<session>(?P<language>en|es|it))",
    # Italian: ansia, disgusto, gioia, rabbia, tristezza; Keesing's groups are the languages, hence the sessions
    emotions={"ans": "fear", "dis": "disgust", "gio": "happiness", "rab": "anger", "tri": "sadness"},
    genders={"f": "female", "m": "male"},
    complete=add_speakers,
    expected={
        "default": {
            "utterances": 1115,
            "emotions": {"anger": 232, "disgust": 168, "fear": 221, "happiness": 240, "sadness": 254},
        }
    },
)
