"""eNTERFACE'05 audio-visual emotions (Martin et al. 2006)."""

from __future__ import annotations

from repkit.audio.named_spec import NamedSpec

SPEC = NamedSpec(
    name="enterface",
    title="eNTERFACE'05",
    language="en",
    licence="free for research",
    home="http://www.enterface.net/results",
    source="Keesing 2020's reader with its repairs of file names; not checked on the files themselves",
    example="subject 1/anger/sentence 1/s1_an_1.wav",
    pattern=r"(?P<speaker>s\d+)_(?P<emotion>an|di|fe|ha|sa|su)_(?P<sentence>\d)",
    emotions={
        "an": "anger",
        "di": "disgust",
        "fe": "fear",
        "ha": "happiness",
        "sa": "sadness",
        "su": "surprise",
    },
    repairs=(
        # the files of subject 11 are named s12; only their folder tells them from those of subject 12
        (r"(?i)(subject[ _]?11/.*)\bs12_", r"\1s11_"),
        (r"s16_su_3avi$", "s16_su_3"),
        (r"\bs_3_", "s3_"),
    ),
    drop={r"(?i)s6_.*": "subject 6 is not cut into sentences"},
    expected={
        "default": {
            "utterances": 1287,
            "speakers": 43,
            "emotions": {
                **dict.fromkeys(("anger", "disgust", "fear", "sadness", "surprise"), 215),
                "happiness": 212,
            },
        }
    },
    hint="The download is video: extract the sound beside it first, keeping the folders (in bash: "
    'find . -name "*.avi" -exec sh -c \'ffmpeg -i "$1" -vn -ac 1 -ar 16000 "${1%.avi}.wav"\' _ {} \\;)',
)
