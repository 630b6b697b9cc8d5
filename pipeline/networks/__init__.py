"""Networks, and the weights that are published for them."""
