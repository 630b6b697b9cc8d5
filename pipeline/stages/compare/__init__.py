"""Stage compare: differences between arms, the multiplier curve, the verdict."""
