"""What is written down: decisions, records, configuration, artifact types, errors, data schemas.

Imports nothing else of ours. Only `artifacts` needs TFX; everything else is pure.
"""
