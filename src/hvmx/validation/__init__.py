"""Validation: what the model predicts for a suite of programs, beside what this host's processor takes for them."""
