"""Scripts that measure speed, memory and the error rates of the statistics; results.md lists what they found."""
