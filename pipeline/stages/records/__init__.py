"""Stage records: the code behind every stage and entry, so that DVC re-runs what has changed."""
