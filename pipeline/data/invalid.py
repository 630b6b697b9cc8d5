"""The error of a file or pair that cannot be used."""


class InvalidData(Exception):
    """The reason why a file or pair cannot be used; becomes one line of the list of faults."""
