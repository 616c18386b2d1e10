"""The decoders of Neumann and Vu's autoencoder and those beside them: from a vector back to the frames, reversed in time.

Source: Neumann & Vu 2019, section 2.1; see `repkit.stage_one.gru_autoencoder`. The autoencoder and the objective
``reconstruction`` share them. Axes: B batch, T frames, F bands, R representation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from repkit.stage_one.recurrent import RecurrentStack, advance, delay, reverse_index, take


class Decoders:
    """Adds decoders to a `torch.nn.Module` that has a `GruAutoencoderConfig` as ``config``.

    Attributes:
        bounded: whether what is reconstructed lies between -1 and 1, so that outputs go through tanh (the paper).
    """

    bounded = True

    def add_decoders(self) -> None:
        """Make the layers; called once by the module that has them, when its parameters are drawn."""
        c = self.config
        self.forward_decoder = RecurrentStack(c.cell, c.n_bands, c.hidden_size, c.n_layers, c.dropout)
        if c.directions == 2:
            self.backward_decoder = RecurrentStack(c.cell, c.n_bands, c.hidden_size, c.n_layers, c.dropout)
            self.output = nn.Linear(2 * c.hidden_size, c.n_bands)
        else:
            self.feedback = nn.Linear(c.hidden_size, c.n_bands)
            self.output = nn.Linear(c.n_bands, c.n_bands)

    def _limited(self, values: Tensor) -> Tensor:
        return torch.tanh(values) if self.bounded else values

    def decode(self, representation: Tensor, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Reconstruct the frames in reversed order of time.

        Args:
            representation: (B, R), split layer by layer, in each layer forward before backward.
            frames: (B, T, F), the utterance in natural order; zero where padded.
            lengths: (B,) int64 or None.

        Returns:
            (B, T, F), step t approximates frame ``length - 1 - t``; meaningless where padded.
        """
        c = self.config
        x = frames.transpose(0, 1)
        n_steps, batch = x.shape[:2]
        order = reverse_index(lengths, n_steps, batch, x.device)
        states = representation.float().view(batch, c.n_layers, c.directions, c.state_size)
        forward_states = [states[:, layer, 0] for layer in range(c.n_layers)]
        if c.directions == 1:
            delayed = delay(take(x, order))
            if self.training and c.feed_previous_probability:
                hidden, fed = self._feed_previous(delayed, forward_states)
            else:
                hidden = self.forward_decoder(delayed, forward_states)[0][-1]
                fed = torch.tanh(self.feedback(hidden))
            return self._limited(self.output(fed)).transpose(0, 1)

        backward_states = [states[:, layer, 1] for layer in range(c.n_layers)]
        if c.decoder == "blind":
            forward_input = backward_input = torch.zeros_like(x)
        else:
            forward_input = delay(take(x, order))
            if c.decoder == "no_leak":
                if self.training and c.decoder_frame_dropout:
                    keep = torch.rand(n_steps, batch, 1, device=x.device) >= c.decoder_frame_dropout
                    forward_input = forward_input * keep
                backward_input = torch.zeros_like(x)
            else:
                # reversing the delayed reversed target in time is the utterance itself, one frame early
                backward_input = advance(x, lengths)
        # both directions share one projection of the joined outputs; reversing its narrower half is cheaper
        weight, h = self.output.weight, c.hidden_size
        forwards = functional.linear(self.forward_decoder(forward_input, forward_states)[0][-1], weight[:, :h])
        backwards = functional.linear(self.backward_decoder(backward_input, backward_states)[0][-1], weight[:, h:])
        return self._limited(forwards + take(backwards, order) + self.output.bias).transpose(0, 1)

    def _feed_previous(self, delayed: Tensor, states: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Step through time, now and then feeding the decoder's own output; returns hidden and fed-back outputs."""
        hidden, fed = [], []
        for step, true_frame in enumerate(delayed):
            frame = true_frame
            if step:
                own = torch.rand(len(frame), 1, device=frame.device) < self.config.feed_previous_probability
                frame = torch.where(own, fed[-1].to(frame.dtype), frame)
            sequences, states = self.forward_decoder(frame[None], states, None, with_finals=True)
            hidden.append(sequences[-1][0])
            fed.append(torch.tanh(self.feedback(hidden[-1])))
        return torch.stack(hidden), torch.stack(fed)
