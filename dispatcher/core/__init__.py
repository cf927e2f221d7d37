"""Decides. No I/O, no clock, no randomness, no logging: time and observations come in as values, a plan goes out."""
