"""From atoms to exit waves to micrographs."""
