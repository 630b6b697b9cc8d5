"""What the membership attacks on a generator cost, apart from the counting, which loads torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AttackCost:
    """Cost of the attacks by the weights of one generator."""

    operations: float  # floating-point operations per attacked image
    bytes: float  # of weights and activations on the device, for all images that the network sees at once
