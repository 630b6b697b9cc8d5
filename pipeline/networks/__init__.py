"""Networks: modules shared by the methods."""
