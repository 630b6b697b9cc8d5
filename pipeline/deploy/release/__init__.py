"""Release cards: what a generator or an image set was trained on, what the audits say, its effect, what is unknown."""
