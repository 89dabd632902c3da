"""The first tasks of the pipelines: what the local runner does before a run, as components."""
