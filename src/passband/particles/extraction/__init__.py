"""From micrographs to crops: particles found, outlined and cut."""
