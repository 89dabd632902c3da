"""Warming anew: what a snapshot was worth for a night's traffic, and a better one made of it."""
