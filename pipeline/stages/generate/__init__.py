"""Stage generate: sample one synthetic image set."""
