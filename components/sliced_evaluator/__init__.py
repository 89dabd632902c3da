"""SlicedEvaluator: TFMA on candidate and live model, gated on intervals slice by slice."""
