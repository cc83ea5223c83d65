"""Whether a model's answer on a micrograph can be trusted: one, many, and their page."""
