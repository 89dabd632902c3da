"""A worker pool that writes down which steps had something to do, and where.

It is Beam's own pool, its workers being threads of it, so that TensorFlow is loaded once for all
jobs of a test: `python pool_main.py PORT FILE`.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from apache_beam.runners.worker import bundle_processor
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

WHERE = "ENCORE_TEST_MACHINE"
_lock = threading.Lock()


def watch(file: Path) -> None:
    """Has a line written for each step of a bundle that got data."""
    reads = bundle_processor.DataInputOperation.process_encoded
    works = bundle_processor.BundleProcessor.process_bundle

    @functools.wraps(reads)
    def process_encoded(self: Any, data: bytes) -> Any:
        self.had_data = True
        return reads(self, data)

    @functools.wraps(works)
    def process_bundle(self: Any, instruction_id: str) -> Any:
        try:
            return works(self, instruction_id)
        finally:
            if any(getattr(operation, "had_data", False) for operation in self.ops.values()):
                steps = self.process_bundle_descriptor.transforms.values()
                lines = [f"{os.environ[WHERE]}\t{step.unique_name}\n" for step in steps]
                with _lock, file.open("a") as out:
                    out.writelines(lines)

    bundle_processor.DataInputOperation.process_encoded = process_encoded
    bundle_processor.BundleProcessor.process_bundle = process_bundle


if __name__ == "__main__":
    watch(Path(sys.argv[2]))
    _, server = BeamFnExternalWorkerPoolServicer.start(use_process=False, port=int(sys.argv[1]))
    while True:
        time.sleep(3600)
