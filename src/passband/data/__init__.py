"""Micrographs, detections and their files."""
