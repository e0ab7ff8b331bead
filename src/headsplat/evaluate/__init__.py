"""Quality and speed, measured: metrics, protocols, benchmarks."""
