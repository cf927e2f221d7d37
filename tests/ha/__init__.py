"""How long nobody leads after a leader was killed: measured on a real API server, with two replicas as they ship."""
