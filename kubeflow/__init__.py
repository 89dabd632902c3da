"""Compiling the pipelines for Kubeflow Pipelines v2."""
