"""Checks of frontends (group ``repkit.frontends``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from repkit.api import Frontend
from repkit.errors import RepkitError
from repkit.testing import common
from repkit.testing.kit import Broken, Case, NotApplicable, case, check
from repkit.testing.material import TOLERANCE, generator_states, touched_generators

GROUP = "repkit.frontends"
SAMPLE_RATE = 16000
LENGTHS = (16000, 4321, 9000, 2500)
"""Samples of the waveforms of a batch."""
COUNTED = (0, 1, 100, 399, 400, 401, 1279, 1280, 5000, 16000, 16001)
"""Numbers of samples for which the promised number of frames is compared."""


@case(GROUP)
class FrontendCase(Case):
    """A frontend with noise to compute frames of.

    Args:
        component: the class.
        settings: of its Config.
        name: for messages.
        lengths: samples of the waveforms; longer ones for a frontend whose windows are.
    """

    def __init__(
        self, component: Any, settings: Mapping[str, Any], name: str, lengths: Sequence[int] = LENGTHS
    ) -> None:
        super().__init__(component, settings, name)
        self.lengths = tuple(lengths)

    @cached_property
    def frontend(self) -> Any:
        """The frontend, built once for all checks."""
        return self.make()

    def waves(self, lengths: Sequence[int] | None = None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noise (B, S) float32, zero where padded, and lengths (B,) int64."""
        sizes = self.lengths if lengths is None else lengths
        generator = torch.Generator().manual_seed(seed)
        waveforms = torch.zeros(len(sizes), max(sizes))
        for row, size in enumerate(sizes):
            waveforms[row, :size] = 0.1 * torch.randn(size, generator=generator)
        return waveforms, torch.tensor(list(sizes), dtype=torch.int64)


@check(GROUP)
def attributes_say_what_comes_out(case: FrontendCase) -> None:
    """`n_bands` is a whole number above 0, `sample_rate` 16000, `frame_shift_s` above 0, and all methods are there.

    Prevents: stores whose frames nobody can place in time, and waveforms that are read at another rate.
    """
    found = case.frontend
    if not isinstance(found, Frontend):
        wanted = ("Config", "config", "n_bands", "sample_rate", "frame_shift_s", "n_frames", "__call__", "convention")
        raise Broken(
            f"no {', '.join(n for n in wanted if not hasattr(found, n))}", "write what repkit.api.Frontend asks for"
        )
    if not isinstance(found.n_bands, int) or found.n_bands < 1:
        raise Broken(f"n_bands = {found.n_bands!r}", "set it to F in __init__")
    if found.sample_rate != SAMPLE_RATE:
        raise Broken(
            f"sample_rate = {found.sample_rate!r}", "corpora hand out 16 kHz: set 16000, resample inside if need be"
        )
    if not isinstance(found.frame_shift_s, float) or not found.frame_shift_s > 0:
        raise Broken(f"frame_shift_s = {found.frame_shift_s!r}", "set it to the seconds from one frame to the next")


@check(GROUP)
def frames_have_their_shape(case: FrontendCase) -> None:
    """Frames are finite float32 (B, T, n_bands), counts int64 (B,) from 1 to T for sounds of a second.

    Prevents: a store that cannot be written, or that holds what no model can read.
    """
    waveforms, lengths = case.waves()
    frames, counts = case.frontend(waveforms, lengths)
    n = len(case.lengths)
    if (
        frames.dtype != torch.float32
        or frames.ndim != 3
        or len(frames) != n
        or frames.shape[2] != case.frontend.n_bands
    ):
        raise Broken(
            f"frames are {frames.dtype} {tuple(frames.shape)}", f"return float32 ({n}, T, {case.frontend.n_bands})"
        )
    if counts.dtype != torch.int64 or tuple(counts.shape) != (n,):
        raise Broken(f"counts are {counts.dtype} {tuple(counts.shape)}", f"return int64 ({n},)")
    if int(counts.max()) > frames.shape[1] or int(counts.max()) < 1:
        raise Broken(f"counts {counts.tolist()} with T = {frames.shape[1]}", "count the valid frames of each waveform")
    if not torch.isfinite(frames).all():
        raise Broken("values that are not finite", "add a floor before the logarithm")


@check(GROUP)
def the_number_of_frames_is_as_promised(case: FrontendCase) -> None:
    """`n_frames(n_samples)` is the number of frames that come out, for any number of samples, too few included.

    Prevents: corpora whose frames do not fit the store that was laid out for them, and a crash on a very short sound.
    """
    for size in COUNTED:
        promised = case.frontend.n_frames(size)
        if size == 0 and promised == 0:
            continue  # nothing need come out of nothing
        for sizes in ([size, 16000], [size]):  # the engine gives one waveform at a time
            counts = case.frontend(*case.waves(sizes))[1]
            if int(counts[0]) != promised or promised < 0:
                raise Broken(
                    f"n_frames({size}) = {promised}, and {int(counts[0])} come out", "count both by one formula"
                )


@check(GROUP)
def padding_changes_no_frame(case: FrontendCase) -> None:
    """A waveform gives the same frames alone and in any batch.

    Prevents: features that depend on which utterances were extracted together.
    """
    waveforms, lengths = case.waves()
    together, counts = case.frontend(waveforms, lengths)
    for row, size in enumerate(case.lengths):
        alone, own = case.frontend(waveforms[row : row + 1, :size], lengths[row : row + 1])
        n = int(own[0])
        if n != int(counts[row]):
            raise Broken(f"{n} frames alone and {int(counts[row])} in a batch", "count by the lengths, not by S")
        gap = float((alone[0, :n] - together[row, :n]).abs().max()) if n else 0.0
        size_of = max(1.0, float(alone[0, :n].abs().max())) if n else 1.0
        if not gap <= TOLERANCE * size_of:
            raise Broken(
                f"frames of {size} samples differ by {gap:.2g} between alone and in a batch",
                "let no window reach into the padding, and take statistics over valid samples only",
            )


@check(GROUP)
def silence_is_harmless(case: FrontendCase) -> None:
    """Silence, a constant and full scale have finite frames.

    Prevents: one silent file that makes the mean and deviation of a whole corpus not a number.
    """
    for value in (0.0, 0.5, 1.0):
        frames = case.frontend(torch.full((1, 16000), value), torch.tensor([16000]))[0]
        if not torch.isfinite(frames).all():
            raise Broken(f"values that are not finite for a constant of {value:g}", "add a floor before the logarithm")


@check(GROUP)
def frames_are_deterministic(case: FrontendCase) -> None:
    """The same waveforms give the same bits in every object of the same settings; nothing is drawn at random.

    Prevents: frames in the cache that cannot be made again.
    """
    waveforms, lengths = case.waves()
    before = generator_states()
    first = case.frontend(waveforms, lengths)[0]
    moved = touched_generators(before)
    for what, other in (("the second time", case.frontend), ("in a fresh object", case.make())):
        torch.manual_seed(12345)
        if not torch.equal(first, other(waveforms.clone(), lengths)[0]):
            raise Broken(f"other frames {what}", "add no dither, and keep nothing from one call to the next")
    if moved:
        raise Broken(f"{' and '.join(moved)} moved", "draw nothing at random")


@check(GROUP)
def waveforms_are_left_alone(case: FrontendCase) -> None:
    """A frontend does not change the waveforms it is given.

    Prevents: a second frontend, or a second pass, that hears something else.
    """
    waveforms, lengths = case.waves()
    before = waveforms.clone()
    case.frontend(waveforms, lengths)
    if not torch.equal(before, waveforms):
        raise Broken("the waveforms changed", "work on a copy")


@check(GROUP)
def the_frame_shift_is_true(case: FrontendCase) -> None:
    """Frames follow each other every `frame_shift_s` seconds.

    Prevents: segments, crops and states that are cut at the wrong place.
    """
    short, long = (case.frontend.n_frames(seconds * SAMPLE_RATE) for seconds in (10, 20))
    if short == long:
        raise NotApplicable("all sounds are brought to one length")
    got = 10.0 / (long - short)
    if not abs(got - case.frontend.frame_shift_s) <= 0.01 * case.frontend.frame_shift_s:
        raise Broken(
            f"{got:.5f} s from frame to frame, {case.frontend.frame_shift_s:.5f} s stated",
            "set frame_shift_s to the hop in samples divided by the rate",
        )


@check(GROUP)
def the_convention_is_json(case: FrontendCase) -> None:
    """`convention()` is a mapping of JSON values, the same for the same settings.

    Prevents: a store that cannot say how its frames were made, or that is never found again.
    """
    found = case.frontend.convention()
    try:
        text = json.dumps(dict(found), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Broken(f"{error}", 'return numbers, text, lists and None, e.g. config.model_dump(mode="json")') from error
    if json.loads(text) != dict(found):
        raise Broken("other values after writing and reading", "use text for keys, and lists instead of tuples")
    if text != json.dumps(dict(case.make().convention()), sort_keys=True):
        raise Broken("another convention in a fresh object", "leave out times, addresses and the order of sets")


@check(GROUP)
def the_convention_tells_settings_apart(case: FrontendCase) -> None:
    """Settings that give other frames have another convention.

    Prevents: frames of old settings that are taken from the cache for new ones.
    """
    waveforms, lengths = case.waves([12000])
    frames = case.frontend(waveforms, lengths)[0]
    text = json.dumps(dict(case.frontend.convention()), sort_keys=True, default=str)
    for change, config in common.settings_variants(case):
        try:
            other = case.component(config)
            changed = other(waveforms, lengths)[0]
        except (RepkitError, ValueError, RuntimeError):
            continue  # settings that do not fit each other
        same = changed.shape == frames.shape and torch.equal(changed, frames)
        if not same and json.dumps(dict(other.convention()), sort_keys=True, default=str) == text:
            raise Broken(f"the same convention with {change}", "put every setting into it: **config.model_dump()")
