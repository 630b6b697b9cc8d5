"""Stage score: score one synthetic image set."""
