"""The inference cache: canonical rows, keys, answers and snapshots. Usable without TFX."""
