"""Stage-one objectives that break one rule each."""

import torch
from faults import fault
from reference_pretraining import Gaps, Level, NextFrame
from torch import nn

GROUP = "repkit.pretraining"


@fault(GROUP, "losses_are_named_finite_scalars")
class Dotted(NextFrame):
    def forward(self, *given):
        return {"next.squared": super().forward(*given)["squared"]}


@fault(GROUP, "losses_are_named_finite_scalars")
class Double(NextFrame):
    def mean(self, *given):
        return super().mean(*given).double()


@fault(GROUP, "padding_changes_nothing")
class OverThePadding(NextFrame):
    def mean(self, error, mask):
        return error.masked_fill(~mask, 0.0).sum() / max(1, mask.numel())


@fault(GROUP, "short_pieces_are_harmless")
class Impatient(NextFrame):
    def mean(self, error, mask):
        return error.masked_fill(~mask, 0.0).sum() / mask.sum()


@fault(GROUP, "silence_is_harmless")
class Relative(NextFrame):
    """Divided by how far the frames lie apart."""

    def forward(self, batch, states, progress):
        losses = super().forward(batch, states, progress)
        spread = batch.frames[batch.mask].std(0).mean() if batch.frames.shape[1] > 2 else 1.0
        return {name: value / spread for name, value in losses.items()}


@fault(GROUP, "gradients_reach_the_encoder")
class Aloof(NextFrame):
    def error(self, batch, states):
        states.layers = tuple(layer.detach() for layer in states.layers)
        return super().error(batch, states)


@fault(GROUP, "own_parameters_are_trained")
class Spare(NextFrame):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.spare = nn.Linear(2, 2)


@fault(GROUP, "the_same_seed_gives_the_same_losses")
class AlwaysDrawing(NextFrame):
    def mean(self, *given):
        return super().mean(*given) * (1 + 5e-6 * torch.rand(()))


@fault(GROUP, "saved_and_loaded_it_goes_on")
class Forgetful(Level):
    def __init__(self, config, task):
        super().__init__(config, task)
        del self.constants
        self.register_buffer("constants", torch.tensor([0.0, 1.0]), persistent=False)


@fault(GROUP, "progress_runs_from_start_to_end")
class Ramp(NextFrame):
    def forward(self, batch, states, progress):
        return {
            name: value * torch.log(torch.tensor(progress)).abs()
            for name, value in super().forward(batch, states, 1.0).items()
        }


@fault(GROUP, "batch_and_states_are_left_alone")
class Scribbling(NextFrame):
    def error(self, batch, states):
        if batch.voiced is not None:
            batch.voiced.zero_()
        return super().error(batch, states)


@fault(GROUP, "corrupted_frames_fit")
class Overwriting(Gaps):
    def corrupt(self, frames, lengths, generator):
        frames[:, 0] = 0.0
        return super().corrupt(frames, lengths, generator)


@fault(GROUP, "corrupted_frames_fit")
class IntoThePadding(Gaps):
    def corrupt(self, frames, lengths, generator):
        return super().corrupt(frames, lengths, generator) + 0.01


@fault(
    GROUP,
    "corruption_is_drawn_from_its_generator",
    also=("padding_changes_nothing", "the_same_seed_gives_the_same_losses", "saved_and_loaded_it_goes_on"),
)
class Careless(Gaps):
    def draw(self, n, generator):
        return torch.rand(n)


@fault(GROUP, "corruption_is_drawn_from_its_generator", also=("padding_changes_nothing",))
class ByTheWidth(Gaps):
    def corrupt(self, frames, lengths, generator):
        hidden = torch.rand(frames.shape[:2], generator=generator) < self.config.share
        return frames.masked_fill(hidden[..., None], 0.0)


@fault(GROUP, "calibration_changes_buffers_only")
class Hoarding(Level):
    def calibrate(self, batches):
        old = self.constants.clone()
        super().calibrate(batches)
        self.constants.lerp_(old, 0.1)


@fault(GROUP, "voices_may_be_missing")
class VoicedOnly(NextFrame):
    def mask(self, batch):
        return batch.voiced[:, self.config.shift :]
