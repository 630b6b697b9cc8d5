"""Stage report: the page that answers the study's question."""
