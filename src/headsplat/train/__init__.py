"""Training: one loop for all methods, which knows none of them."""
