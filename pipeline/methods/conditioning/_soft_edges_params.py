"""Parameters that the networks of soft edges share, apart from these, which load torch."""

from pydantic import Field

from pipeline.methods.conditioning._lines_params import Lines


class SoftEdges(Lines):
    """Where the network's weights are, and which of its lines are shown."""

    file: str | None = None
    """Path of the network's weights. `null`: `weights/`, then the hub's cache, then the hub."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """The file's sha256; `null` for the published one."""
