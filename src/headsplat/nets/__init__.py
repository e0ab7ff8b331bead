"""Network parts that two or more methods use: vision transformer, attention blocks, tri-planes."""
