"""GAGAvatar (NeurIPS 2024): one photo lifted to Gaussians, expressions from a head model, a neural renderer.

The network has 170 M parameters as released; `small` trains on a CPU. See README.md.
"""
