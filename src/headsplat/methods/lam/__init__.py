"""LAM (SIGGRAPH 2025): a head from one photo in one forward pass, with the released weights or your own."""
