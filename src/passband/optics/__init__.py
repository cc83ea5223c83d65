"""Lens, camera and the spectra they leave: pure functions of tensors and arrays."""
