"""Simulated micrographs of cavities, with their truth."""
