"""Particle libraries on disk: their crops, labels, classes and page."""
