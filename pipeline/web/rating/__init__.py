"""The rating page: blinded images, clinicians' answers in SQLite, and the CSV that the stage score reads."""
