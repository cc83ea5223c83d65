"""Scores, spectra and distances: pure functions of arrays."""
