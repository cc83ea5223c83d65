"""Particles sorted by shape from a few labels: found, cut, classified, and kept in libraries."""
