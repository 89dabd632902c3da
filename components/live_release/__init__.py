"""LiveRelease: the model, statistics and schema that are live now."""
