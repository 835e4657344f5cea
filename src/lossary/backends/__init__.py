"""Frameworks behind one protocol; each is imported in a worker process of its own only."""
