"""Keeps TensorFlow, Beam and absl from talking where nobody reads it."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "GRPC_VERBOSITY": "ERROR",
    "PYTHONWARNINGS": "ignore",
    "CUDA_VISIBLE_DEVICES": "-1",
}


def hush(level: int = logging.ERROR) -> None:
    """Sets the environment, warnings and loggers; call it before TensorFlow is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore")
    logging.getLogger().setLevel(level)
    for name in ("absl", "tensorflow", "apache_beam", "root"):
        logging.getLogger(name).setLevel(level)
    sys.unraisablehook = _unraisable


def _unraisable(event: Any) -> None:
    """Drops what TensorFlow's half-destroyed functions say at exit; passes on the rest."""
    if "AtomicFunction" not in repr(event.object):
        sys.__unraisablehook__(event)
