"""Simulated datasets: the study, the folder, and what is made of it."""
