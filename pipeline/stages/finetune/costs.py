"""What fine-tuning a generator costs, apart from the counting, which loads torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Parameters and arithmetic of one generator entry."""

    trained: int  # parameters
    frozen: int  # parameters of the denoiser that stay on the device untrained
    early: float  # operations per sample of a training step
    late: float  # the same after K_tau, the mean over timesteps
    switch: float  # share of training that is early

    @property
    def mean(self) -> float:
        """Operations per sample, on average over the training."""
        return self.switch * self.early + (1 - self.switch) * self.late
