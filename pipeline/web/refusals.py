"""Why a rater's request, or a file of ratings, is refused."""

from pipeline.core.errors import UserError


class Refused(UserError):
    """A request that is not carried out; nothing was changed. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
