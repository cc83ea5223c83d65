"""Crystals, particles and films: what is in the microscope, and where its labels come from."""
