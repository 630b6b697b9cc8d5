"""The rating page: blinded images, clinicians' answers kept in SQLite, a CSV that the stage score reads."""
