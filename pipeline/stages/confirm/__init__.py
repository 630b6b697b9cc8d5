"""Stage confirm: train the arm that validation chose, and the reference, again with fresh seeds."""
