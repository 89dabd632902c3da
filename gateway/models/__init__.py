"""Models: loading versions, running them, deciding how their answers are cached."""
