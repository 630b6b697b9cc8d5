"""The exception for bad input and bad parameters; its message says what was found and what would do."""


class UserError(ValueError):
    """A fault that the user can mend; stages print its message without a traceback and exit with status 2."""
