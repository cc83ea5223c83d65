"""Specimen, wave, lens and camera: pure functions, no files."""
