"""The one exception a user may cause: bad input or bad parameters, told in a sentence that says what would do."""


class UserError(ValueError):
    """Something the user can mend; stages print it as one message, without a traceback, and exit with status 2."""
