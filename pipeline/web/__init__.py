"""Pages that a browser on this computer shows: for raters, and for trying a generator. They share guard and server."""
