"""TensorFlow Serving's flags that no field of `settings` stands for. No IO here.

Each is taken, so that a command line written for TensorFlow Serving starts the gateway too. A flag
that could change only how fast answers come, or how much memory they take, is without effect, and
the log says so once. One that would change an answer, or who may read it, is refused: whoever set
it relies on it. Source: tensorflow_serving/model_servers/main.cc and server.h.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["bool", "int", "float", "text"]


class TfFlag(NamedTuple):
    """A flag that is taken but does nothing here.

    Attributes:
        name: without dashes.
        kind: what values it takes.
        default: TensorFlow Serving's; giving it again is always fine. None: it depends.
        refused: True if any other value is an error.
        reason: why.
    """

    name: str
    kind: Kind
    default: bool | int | float | str | None
    refused: bool
    reason: str


_THREADS = "one event loop answers and models run in threads of their own; see --workers"
_LITE = "no TensorFlow Lite models are served"

TF_FLAGS = (
    TfFlag("rest_api_num_threads", "int", None, False, _THREADS),
    TfFlag("grpc_max_threads", "int", None, False, _THREADS),
    TfFlag(
        *("enable_per_model_batching_parameters", "bool", False, False),
        "--batching_parameters_file holds for every model",
    ),
    TfFlag("flush_filesystem_caches", "bool", True, False, "the kernel keeps what is read often"),
    TfFlag(
        *("per_process_gpu_memory_fraction", "float", 0.0, False),
        "models run on the CPU here; use --upstream for a TensorFlow Serving with a GPU",
    ),
    TfFlag(
        *("remove_unused_fields_from_bundle_metagraph", "bool", True, False),
        "nothing of the meta graph is kept but the signatures",
    ),
    TfFlag("num_tflite_pools", "int", None, False, _LITE),
    TfFlag("num_tflite_interpreters_per_pool", "int", 1, False, _LITE),
    TfFlag(
        *("xla_cpu_compilation_enabled", "bool", False, False),
        "functions that demand XLA always get it here",
    ),
    TfFlag("xla_gpu_compilation_enabled", "bool", False, False, "models run on the CPU here"),
    TfFlag("enable_profiler", "bool", True, False, "there is no profiler service"),
    TfFlag("thread_pool_factory_config_file", "text", "", False, _THREADS),
    TfFlag("skip_initialize_tpu", "bool", False, False, "no TPU is used"),
    TfFlag(
        *("use_alts_credentials", "bool", False, True),
        "ALTS is not spoken here, and gRPC must not become readable instead; use --ssl_config_file",
    ),
    TfFlag(
        *("platform_config_file", "text", "", True),
        "only SavedModels are served, and what it says of sessions may change answers; use the "
        "flags for threads, tags and batching",
    ),
    TfFlag(
        *("tensorflow_session_config_file", "text", "", True),
        "a ConfigProto may switch optimisations that change answers; for numbers of threads use "
        "--tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism",
    ),
    TfFlag(
        *("prefer_tflite_model", "bool", False, True),
        "a TensorFlow Lite model may answer otherwise, and " + _LITE + " here",
    ),
    TfFlag(
        *("mixed_precision", "text", "", True),
        "it changes answers; export the model in the precision that is wanted",
    ),
    TfFlag("num_unload_threads", "int", 0, False, "a version is unloaded once nobody uses it"),
    TfFlag(
        *("saved_model_tags", "text", "serve", True),
        "only graphs tagged `serve` are served; another graph would give other answers",
    ),
    TfFlag(
        *("enable_signature_method_name_check", "bool", False, True),
        "Classify and Regress judge a signature by its outputs, as TensorFlow Serving does by "
        "default",
    ),
    TfFlag(
        *("enable_serialization_as_tensor_content", "bool", False, True),
        "gRPC answers are written as typed values (`float_val`...), and clients that read "
        "`tensor_content` themselves would find it empty; leave it out if yours use "
        "`tf.make_ndarray`",
    ),
)
"""Every flag of TensorFlow Serving that is not a field of `GatewaySettings`, but `--version`."""
