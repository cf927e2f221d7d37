"""Bursts through the real connector of the virtual node, held against the books of the stand-in for ACI."""
