"""A frontend: waveforms to frames. Log energy in bands that grow wider towards high frequencies, as hearing does."""

import torch
from pydantic import Field
from repkit import api


class BandEnergies:
    """Log energies of bands equally wide in log frequency, 25 ms windows every 10 ms."""

    class Config(api.Config):
        """Settings: number of bands between 100 Hz and 8 kHz; with more than 16 some would hold no FFT bin."""

        bands: int = Field(16, ge=1, le=16)

    sample_rate, frame_shift_s = 16000, 0.010
    window, shift, n_fft = 400, 160, 512  # in samples

    def __init__(self, config: Config) -> None:
        self.config, self.n_bands = config, config.bands
        hz = torch.arange(self.n_fft // 2 + 1) * self.sample_rate / self.n_fft
        edges = torch.logspace(0, 1, config.bands + 1, base=80) * 100.0
        self._inside = ((hz[:, None] >= edges[:-1]) & (hz[:, None] < edges[1:])).float()  # (bins, F)

    def n_frames(self, n_samples: int) -> int:
        """Return how many whole windows fit: a frame that read padding would change with the batch."""
        return max(0, 1 + (n_samples - self.window) // self.shift)

    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames (B, T, F) and their counts (B,) from waveforms (B, S) and sample counts (B,)."""
        counts = torch.tensor([self.n_frames(n) for n in lengths.tolist()])
        waveforms = torch.nn.functional.pad(waveforms, (0, self.window))  # at least one window to unfold
        windows = waveforms.unfold(1, self.window, self.shift)[:, : max(1, int(counts.max()))]  # (B, T, window)
        power = torch.fft.rfft(windows * torch.hann_window(self.window), self.n_fft).abs().square()
        return (power @ self._inside + 1e-10).log(), counts

    def convention(self) -> dict:
        """Return every setting that changes the numbers; a change makes the frames anew."""
        return {"frontend": "band_energies", "version": "1", **self.config.model_dump()}
