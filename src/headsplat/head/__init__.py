"""Parametric heads: the bundled free head and FLAME behind one model."""
