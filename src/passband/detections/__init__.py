"""What was found in micrographs: its files, matching with the truth, and scores."""
