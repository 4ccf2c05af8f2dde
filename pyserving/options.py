"""The command line: every flag of tensorflow_model_server under its own name and default, and ours beside them.

`python -m pyserving.options --markdown` writes the table that `docs/flags.md` holds.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import partial
from typing import Any, TypeAlias

from pyserving import __version__
from pyserving.errors import InvalidArgument
from pyserving.machine import schedulable_cpus

Value: TypeAlias = int | bool | str | float

ASPIRED_VERSION_POLICIES = ("availability_preserving", "resource_preserving")
LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")
GRPC_TRANSPORTS = ("grpcio", "http2")
REST_NONFINITE = ("token", "null", "string")


class Effect(Enum):
    """What a flag does here."""

    WORKING = "yes"
    REFUSED = "refused"
    """It asks for protection that is not built: the server does not start without it."""
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Flag:
    """What is known of a flag besides its name and its value."""

    kind: str
    """int32, int64, bool, string or float, as the usage text names types."""
    help: str
    effect: Effect = Effect.WORKING
    reason: str = ""
    """Why it is not applicable."""
    ours: bool = False
    """TensorFlow Serving does not have it."""
    default_in_words: str = ""
    """For the documentation, where the value depends on the machine."""
    of_platform: bool = False
    """A platform config file says this in its stead."""


def _four_per_cpu() -> int:
    return 4 * schedulable_cpus()


def _flag(
    kind: str, default: Value | Callable[[], Value], help: str, effect: Effect = Effect.WORKING, **more: Any
) -> Any:
    metadata = {"flag": Flag(kind, help, effect, **more)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


_int32 = partial(_flag, "int32")
_int64 = partial(_flag, "int64")
_bool = partial(_flag, "bool")
_string = partial(_flag, "string")
_float = partial(_flag, "float")
_REFUSED = Effect.REFUSED
_NOT_APPLICABLE = Effect.NOT_APPLICABLE


@dataclass(frozen=True, slots=True)
class Options:
    """The value of every flag. The fields' metadata hold a `Flag` each."""

    # Ports
    port: int = _int32(
        8500,
        "TCP port of the gRPC services, on all interfaces of IPv4; with --grpc_transport=grpcio on those of IPv6 as"
        " well. 0: none",
    )
    grpc_socket_path: str = _string("", "Path of a UNIX socket on which the gRPC services listen as well. Empty: none")
    rest_api_port: int = _int32(0, "TCP port of HTTP: the REST API, metrics and health pages. 0: none")
    rest_api_num_threads: int = _int32(
        _four_per_cpu,
        "Threads for REST requests",
        _NOT_APPLICABLE,
        reason="a request occupies no thread",
        default_in_words="4 × schedulable CPUs",
    )
    rest_api_timeout_in_ms: int = _int32(30000, "Milliseconds that a run of a REST request may take. 0 or less: any")
    rest_api_enable_cors_support: bool = _bool(False, "Let pages of any origin call the REST API")
    grpc_channel_arguments: str = _string("", "Settings for the gRPC server: key=value, with commas in between")
    grpc_max_threads: int = _int32(
        _four_per_cpu,
        "When given: the most gRPC calls answered at a time; further ones get RESOURCE_EXHAUSTED",
        default_in_words="4 × schedulable CPUs, as shown by `--help`; no limit unless given",
    )
    enable_grpc_healthcheck_service: bool = _bool(True, "Offer grpc.health.v1 (TensorFlow Serving: off by default)")
    ssl_config_file: str = _string(
        "", "Text-format SSLConfig, with PEM texts or names of PEM files: serve gRPC and HTTP over TLS. Empty: plain"
    )
    use_alts_credentials: bool = _bool(False, "Secure gRPC with ALTS", _REFUSED)

    # Models
    model_name: str = _string("default", "Name of the one model to serve; not used with --model_config_file")
    model_base_path: str = _string("", "Folder or URI that holds the version folders of the one model to serve")
    model_config_file: str = _string("", "Text-format ModelServerConfig that lists the models to serve")
    model_config_file_poll_wait_seconds: int = _int32(
        0, "Seconds between two readings of --model_config_file. 0 or less: read it once"
    )
    allow_version_labels_for_unavailable_models: bool = _bool(
        False, "Let a new version label name a version that is not available"
    )
    saved_model_tags: str = _string(
        "serve", "Tags, with commas in between, of the MetaGraph to load from a SavedModel", of_platform=True
    )
    enable_signature_method_name_check: bool = _bool(
        False, "Refuse requests to a signature whose method_name is made for another RPC"
    )
    remove_unused_fields_from_bundle_metagraph: bool = _bool(
        True,
        "Keep only signatures of a loaded model's MetaGraph",
        _NOT_APPLICABLE,
        reason="nothing else is ever kept",
        of_platform=True,
    )
    enable_serialization_as_tensor_content: bool = _bool(
        False, "Answer Predict with tensor_content rather than typed value fields"
    )
    platform_config_file: str = _string(
        "", "Text-format PlatformConfigMap: the platforms that models may have, in place of the built-in one"
    )

    # Loading
    num_load_threads: int = _int32(
        0,
        "Threads that load versions; where there are several, one model leaves the last to the others. 0: eight, or "
        "one for each CPU where there are more, and one more for each load that takes longer than 30 seconds",
    )
    num_unload_threads: int = _int32(0, "Threads that unload versions. 0: as for loading")
    max_num_load_retries: int = _int32(5, "Further attempts after a version failed to load. 0: none")
    load_retry_interval_micros: int = _int64(60_000_000, "Microseconds between two attempts. Negative: none")
    file_system_poll_wait_seconds: int = _int32(
        1,
        "Seconds between two looks at the base paths. 0 or less: one look at start-up and at each new config",
        default_in_words="`1`; `60` for remote base paths",
    )
    flush_filesystem_caches: bool = _bool(
        True,
        "Empty the caches of remote file systems once models are loaded",
        _NOT_APPLICABLE,
        reason="TensorFlow offers it in C++ only; nothing is cached unless GCS_READ_CACHE_MAX_SIZE_MB is set",
    )
    enable_model_warmup: bool = _bool(
        True, "Replay the requests in assets.extra/tf_serving_warmup_requests", of_platform=True
    )
    num_request_iterations_for_warmup: int = _int32(
        0, "Times to replay each of them. 0 or less: once", of_platform=True
    )

    # Running
    tensorflow_session_parallelism: int = _int64(
        0,
        "Threads in each pool of a TensorFlow session, within and between ops. 0: TensorFlow chooses",
        of_platform=True,
    )
    tensorflow_intra_op_parallelism: int = _int64(0, "Threads within an op. 0: TensorFlow chooses", of_platform=True)
    tensorflow_inter_op_parallelism: int = _int64(0, "Threads between ops. 0: TensorFlow chooses", of_platform=True)
    tensorflow_session_config_file: str = _string(
        "",
        "Text-format tensorflow.ConfigProto for sessions; thread counts and GPU memory come from their own flags",
        of_platform=True,
    )
    per_process_gpu_memory_fraction: float = _float(
        0.0, "Part of a GPU's memory, from 0 to 1, taken at start-up. 0: taken as it is needed", of_platform=True
    )
    xla_cpu_compilation_enabled: bool = _bool(
        False,
        "XLA for graphs that ask for it. They get it anyway, unless this flag or the next one is given and neither is "
        "true: then they fail with `XLA compilation disabled`",
        default_in_words="`false`, which counts only when given",
    )
    xla_gpu_compilation_enabled: bool = _bool(
        False, "The same; they do not differ", default_in_words="`false`, which counts only when given"
    )
    mixed_precision: str = _string(
        "", "`bfloat16`: let oneDNN compute in bfloat16 where it may, on processors that can", of_platform=True
    )
    thread_pool_factory_config_file: str = _string(
        "",
        "Text-format ThreadPoolFactoryConfig. There is no factory that it could name, no more than in TensorFlow "
        "Serving: the server does not start, and says so",
    )
    skip_initialize_tpu: bool = _bool(
        False, "Leave TPUs alone at start-up", _NOT_APPLICABLE, reason="TPUs are not used"
    )

    # Batching
    enable_batching: bool = _bool(False, "Run requests together in batches", of_platform=True)
    batching_parameters_file: str = _string(
        "", "Text-format BatchingParameters; needs --enable_batching", of_platform=True
    )
    enable_per_model_batching_parameters: bool = _bool(
        False,
        "Batch only versions with a batching_params.pbtxt in their folder, by what it says; needs --enable_batching",
        of_platform=True,
    )

    # TensorFlow Lite
    prefer_tflite_model: bool = _bool(
        False, "Load model.tflite of a version's folder where there is one", of_platform=True
    )
    num_tflite_pools: int = _int32(
        schedulable_cpus,
        "TensorFlow Lite interpreters of a model: requests that it runs at a time, on one thread each",
        default_in_words="schedulable CPUs",
        of_platform=True,
    )
    num_tflite_interpreters_per_pool: int = _int32(
        1,
        "More than 1: requests of many rows to a TensorFlow Lite model of one input are divided among its "
        "interpreters, in pieces of 500 rows divided by this number",
        of_platform=True,
    )

    # Watching the server
    monitoring_config_file: str = _string(
        "", "Text-format MonitoringConfig: path of the metrics page, or enable: false for none. Empty: the usual path"
    )
    enable_profiler: bool = _bool(
        True, "Offer TensorFlow's profiler service on the gRPC port; who reaches it can slow the server down"
    )
    version: bool = _bool(False, "Print versions and exit")

    # Ours
    strict_startup: bool = _bool(
        False, "Exit when any model fails to load at start-up, not only when all do", ours=True
    )
    shutdown_grace_seconds: float = _float(
        30.0, "Seconds that requests in flight may take to finish after SIGTERM or SIGINT", ours=True
    )
    incomplete_version_timeout_seconds: float = _float(
        30.0,
        "Seconds without change after which a version folder that looks incomplete is loaded as it is",
        ours=True,
        default_in_words="`30.000000`; `600` for remote base paths",
    )
    aspired_version_policy: str = _string(
        "availability_preserving",
        "`availability_preserving`: a version goes when the next one serves; `resource_preserving`: before it loads",
        ours=True,
    )
    model_cache_dir: str = _string(
        "",
        "Folder for copies of the served versions whose base path is remote and TensorFlow cannot open, such as s3://; "
        "several servers may share it",
        ours=True,
        default_in_words="`pyserving-models-UID` in the system's temporary folder",
    )
    reload_replaced_versions: bool = _bool(
        False,
        "Load a version anew when its files are replaced under the same number; needs memory for both copies at a time",
        ours=True,
    )
    load_in_spare_time: bool = _bool(
        True,
        "While anything is served, load and unload TensorFlow models in what requests leave of the processors (Linux); "
        "where that is too little, and when off: beside them",
        ours=True,
    )
    servable_versions_always_present: bool = _bool(
        True, "Keep the last versions when a base path is emptied or cannot be listed; off: unload them", ours=True
    )
    custom_op_libraries: str = _string(
        "", "Shared libraries with TensorFlow ops, with commas in between, to load before any model", ours=True
    )
    import_modules: str = _string(
        "",
        "Python modules, with commas in between, to import before any model: those that register ops, say",
        ours=True,
    )
    allow_python_models: bool = _bool(
        False,
        "Serve models of the platform `python`. Their model.py is run with the server's own rights, so whoever can "
        "write to a model's folder can then run code here",
        ours=True,
    )
    request_log_max_file_bytes: int = _int64(
        256 << 20, "The most bytes of a file that a logging_config has written; then comes the next", ours=True
    )
    request_log_max_file_seconds: float = _float(
        3600.0, "Seconds after which such a file is finished, full or not", ours=True
    )
    request_log_max_total_bytes: int = _int64(
        4 << 30, "The most bytes of all files of a filename_prefix; beyond them the oldest are removed", ours=True
    )
    request_log_max_queued_bytes: int = _int64(
        64 << 20, "The most bytes of requests that wait to be logged; what comes then is dropped and counted", ours=True
    )
    max_expanded_tensor_bytes: int = _int64(
        1 << 30, "The most bytes one tensor of a request may take in memory", ours=True
    )
    max_inflight_calls: int = _int32(
        0,
        "The most gRPC calls in flight; further ones get RESOURCE_EXHAUSTED. 0: from the machine's memory",
        ours=True,
    )
    max_inflight_bytes: int = _int64(
        0,
        "The most bytes of requests in flight; further ones get RESOURCE_EXHAUSTED. 0: a quarter of free memory",
        ours=True,
    )
    max_connections: int = _int32(
        0,
        "The most connections of the HTTP port, and of gRPC without --grpc_transport=grpcio; further ones are closed."
        " 0: from the files that the process may open, up to 16384",
        ours=True,
    )
    auth_tokens_file: str = _string(
        "",
        "File of tokens, one a line, of which each gRPC call and HTTP request must show one:"
        " `authorization: Bearer TOKEN` or `x-api-key: TOKEN`. Empty: none are asked for",
        ours=True,
    )
    auth_exempt_health: bool = _bool(
        True,
        "With --auth_tokens_file: answer grpc.health.v1, /healthz and /readyz without a token. They name the models and"
        " their states",
        ours=True,
    )
    rest_api_ssl: bool = _bool(True, "--ssl_config_file holds for the HTTP port, too", ours=True)
    grpc_transport: str = _string(
        "http2", "`http2`: our own server; `grpcio`: gRPC's, which is many times slower for small requests", ours=True
    )
    busy_poll_micros: int = _int32(
        100,
        "Microseconds after an answer for which the server stays awake, while requests mostly come within them, on two"
        " CPUs or more. 0: never",
        ours=True,
    )
    rest_max_header_bytes: int = _int32(
        64 << 10, "The most bytes the headers of an HTTP request may take; beyond, it gets 431", ours=True
    )
    rest_max_body_bytes: int = _int64(
        1 << 30, "The most bytes the body of an HTTP request may take as sent; beyond, it gets 413", ours=True
    )
    rest_idle_timeout_seconds: float = _float(
        3600.0, "Seconds an HTTP connection may stay open between two requests", ours=True
    )
    rest_stall_timeout_seconds: float = _float(
        60.0,
        "Seconds an HTTP request's headers may take, and that its body, or the reading of the answer, may stand still",
        ours=True,
    )
    rest_gzip_answers: bool = _bool(
        False, "Compress answers of the REST API of 1 KB and more for clients that accept gzip", ours=True
    )
    rest_nonfinite: str = _string(
        "token",
        "How REST answers show NaN and infinities: `token` bare, which is not JSON, `null`, or `string` in quotes",
        ours=True,
    )
    log_format: str = _string("text", "`text` for people, or `json`: one object a line", ours=True)
    log_level: str = _string("info", "The least that is logged: debug, info, warning or error", ours=True)


FLAGS: Mapping[str, Flag] = {field.name: field.metadata["flag"] for field in fields(Options)}


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a command line says, and what the process is to print about it."""

    options: Options
    given: frozenset[str]
    """Names of the flags that were written out, even with their default value."""
    stdout: str
    stderr: str
    exit_status: int | None
    """None: go on and serve."""


def parse(argv: Sequence[str], program: str = "tensorflow_model_server") -> Parsed:
    """Read the words after the program's name, as TensorFlow's command_line_flags.cc and main.cc do.

    In addition `--noname` sets a boolean to false, and `-` in a name stands for `_`.
    """
    values: dict[str, Value] = {}
    unknown: list[str] = []
    complaints: list[str] = []
    for position, word in enumerate(argv):
        if word == "--":
            unknown.extend(argv[position:])
            break
        try:
            known = _read(word)
        except ValueError as error:
            complaints.append(f"{error}\n")
            continue
        if known is None:
            unknown.append(word)
        else:
            name, value = known
            values[name] = value
    options = Options(**values)  # type: ignore[arg-type]  # each value was read by its own flag's kind
    stdout, exit_status = _verdict(program, options, unknown, bool(complaints))
    return Parsed(options, frozenset(values), stdout, "".join(complaints), exit_status)


def _verdict(program: str, options: Options, unknown: Sequence[str], has_complaints: bool) -> tuple[str, int | None]:
    """What goes to stdout, and the exit status."""
    if has_complaints or unknown[:1] == ["--help"]:
        return usage(program), 255
    if options.version:
        return _version_text(), 0
    if unknown:
        return f"unknown argument: {unknown[0]}\n{usage(program)}", None
    return "", None


def _read(word: str) -> tuple[str, Value] | None:
    """The flag a word sets, and to what; None: not a flag. ValueError says which value cannot be read."""
    if not word.startswith("--"):
        return None
    written, equals, text = word[2:].partition("=")
    name = written.replace("-", "_")
    if name not in FLAGS:
        positive = name.removeprefix("no")
        is_negation = not equals and positive != name and positive in FLAGS and FLAGS[positive].kind == "bool"
        return (positive, False) if is_negation else None
    kind = FLAGS[name].kind
    if not equals:
        return (name, True) if kind == "bool" else None
    try:
        return name, _READERS[kind](text)
    except ValueError:
        raise ValueError(f"Couldn't interpret value {text} for flag {name}.") from None


def _read_integer(bits: int, text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(text)
    value = int(text)
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise ValueError(text)
    return value


def _read_bool(text: str) -> bool:
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _read_float(text: str) -> float:
    if re.search(r"[\s_]", text):  # which Python would let pass
        raise ValueError(text)
    return float(text)


_READERS: Mapping[str, Callable[[str], Value]] = {
    "int32": partial(_read_integer, 32),
    "int64": partial(_read_integer, 64),
    "bool": _read_bool,
    "string": str,
    "float": _read_float,
}


def usage(program: str, options: Options | None = None) -> str:
    """The help text, with the values of `options` (the defaults, unless given) as the flags' values."""
    options = options or Options()
    lines = [f"usage: {program}", "Flags:"]
    for name, flag in FLAGS.items():
        setting = f"--{name}={_written(flag.kind, getattr(options, name))}"
        lines.append(f"\t{setting:<33}\t{flag.kind}\t{flag.help}")
    return "\n".join(lines) + "\n"


def _written(kind: str, value: Value) -> str:
    if kind == "bool":
        return "true" if value else "false"
    if kind == "string":
        return f'"{value}"'
    return f"{value:f}" if kind == "float" else str(value)


def _version_text() -> str:
    return f"TensorFlow ModelServer: {__version__}+pyserving\nTensorFlow Library: {_tensorflow_version()}\n"


def _tensorflow_version() -> str:
    """Of whichever distribution provides TensorFlow here; asking TensorFlow itself would take seconds."""
    distributions = importlib.metadata.packages_distributions().get("tensorflow", [])
    return importlib.metadata.version(distributions[0]) if distributions else "not installed"


def validate(options: Options) -> None:
    """Refuse flags that contradict each other, in the order of server.cc; InvalidArgument with its sentences."""
    if not options.port and not options.grpc_socket_path:
        raise InvalidArgument(
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
        )
    if options.use_alts_credentials and options.ssl_config_file:
        raise InvalidArgument("Either use_alts_credentials must be false or ssl_config_file must be empty.")
    _refuse_missing_protection(options)
    if not options.model_base_path and not options.model_config_file:
        raise InvalidArgument("Both server_options.model_base_path and server_options.model_config_file are empty!")
    if not options.platform_config_file:
        _validate_platform(options)
    _validate_ours(options)
    channel_arguments(options)


def _refuse_missing_protection(options: Options) -> None:
    defaults = Options()
    for name, flag in FLAGS.items():
        if flag.effect is Effect.REFUSED and getattr(options, name) != getattr(defaults, name):
            raise InvalidArgument(f"--{name} is not supported yet, and the server does not start unprotected.")


def _validate_platform(options: Options) -> None:
    """What a platform config file makes moot."""
    if options.batching_parameters_file and not options.enable_batching:
        raise InvalidArgument(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    if (
        options.tensorflow_session_parallelism > 0
        and options.tensorflow_intra_op_parallelism > 0
        and options.tensorflow_inter_op_parallelism > 0
    ):
        raise InvalidArgument(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all."
        )


def _validate_ours(options: Options) -> None:
    for name, least in _LEAST.items():
        value = getattr(options, name)
        if not value >= least:  # so written that nan is refused, too
            raise InvalidArgument(f"--{name} must be {least} or more; was {value}")
    if options.request_log_max_total_bytes < options.request_log_max_file_bytes:
        raise InvalidArgument("--request_log_max_total_bytes must not be less than --request_log_max_file_bytes")
    for name in ("port", "rest_api_port"):
        if (value := getattr(options, name)) > _LAST_PORT:
            raise InvalidArgument(f"--{name} must be {_LAST_PORT} or less; was {value}")
    for name, choices in _CHOICES.items():
        value = getattr(options, name)
        if value not in choices:
            raise InvalidArgument(f"--{name} must be one of {', '.join(choices)}; was {value!r}")


_LAST_PORT = 65535
_CHOICES: Mapping[str, Sequence[str]] = {
    "aspired_version_policy": ASPIRED_VERSION_POLICIES,
    "grpc_transport": GRPC_TRANSPORTS,
    "log_format": LOG_FORMATS,
    "log_level": LOG_LEVELS,
    "rest_nonfinite": REST_NONFINITE,
}
_LEAST: Mapping[str, int] = {
    "port": 0,
    "rest_api_port": 0,
    "num_load_threads": 0,
    "num_unload_threads": 0,
    "grpc_max_threads": 1,
    "shutdown_grace_seconds": 0,
    "incomplete_version_timeout_seconds": 0,
    "request_log_max_file_bytes": 1,
    "request_log_max_file_seconds": 1,
    "request_log_max_queued_bytes": 0,
    "max_expanded_tensor_bytes": 1,
    "max_inflight_calls": 0,
    "max_inflight_bytes": 0,
    "busy_poll_micros": 0,
    "rest_max_header_bytes": 1,
    "rest_max_body_bytes": 1,
    "rest_idle_timeout_seconds": 0,
    "rest_stall_timeout_seconds": 0,
    "max_connections": 0,
}


_REMOTE_POLL_SECONDS = 60
"""Each look at remote storage costs requests."""


def remote_poll_seconds(wished: int | None) -> tuple[int, int]:
    """From one poll of a remote base path to the next, 0 for none, and the least from one look to the next at a version
    that is waited for. `wished` is `--file_system_poll_wait_seconds`, None where it was not given."""
    poll_seconds = _REMOTE_POLL_SECONDS if wished is None else max(wished, 0)
    return poll_seconds, min(poll_seconds, _REMOTE_POLL_SECONDS) or _REMOTE_POLL_SECONDS


_TRANSITION_THREADS = 8
"""More than most machines have CPUs: a load that waits for its storage, or an unload that waits for a lock, needs none,
and must not keep other models waiting."""

_TRANSITION_PATIENCE_SECONDS = 30.0
"""Longer than most loads take. Should one take longer all the same, one more runs beside it."""


def transition_threads(wished: int, cpus: int) -> int:
    """What `--num_load_threads` or `--num_unload_threads` comes to."""
    return wished or max(_TRANSITION_THREADS, cpus)


def transition_patience_seconds(wished: int) -> float | None:
    """After what time another thread stands in for one that loads or unloads: never, where their number was wished."""
    return None if wished else _TRANSITION_PATIENCE_SECONDS


def startup_warning(given: Collection[str]) -> str | None:
    """One sentence about the flags that were given and change nothing; None when there are none."""
    reasons = {name: _why_idle(flag, given) for name, flag in FLAGS.items() if name in given}
    idle = [f"--{name} ({reason})" for name, reason in reasons.items() if reason]
    return f"Flags that change nothing here: {', '.join(idle)}" if idle else None


def _why_idle(flag: Flag, given: Collection[str]) -> str | None:
    if flag.effect is Effect.NOT_APPLICABLE:
        return _effect_in_words(flag)
    return "--platform_config_file says it" if flag.of_platform and "platform_config_file" in given else None


def _effect_in_words(flag: Flag) -> str:
    return f"{flag.effect.value}: {flag.reason}" if flag.reason else flag.effect.value


def channel_arguments(options: Options) -> list[tuple[str, int | str]]:
    """`--grpc_channel_arguments` as gRPC takes them: a value that is a 32-bit integer is one, any other is text."""
    items = options.grpc_channel_arguments.split(",") if options.grpc_channel_arguments else []
    return [_channel_argument(item) for item in items]


def _channel_argument(item: str) -> tuple[str, int | str]:
    key, *values = item.split("=")
    if not values:
        raise InvalidArgument(f"--grpc_channel_arguments must be a list of key=value; an item was {item!r}")
    # As server.cc: what follows a second `=` is dropped.
    try:
        return key, _read_integer(32, values[0].strip())
    except ValueError:
        return key, values[0]


def saved_model_tags(options: Options) -> frozenset[str]:
    """The tag set that a MetaGraph must have, no less and no more; `{"serve"}` for an empty flag."""
    return frozenset((options.saved_model_tags or "serve").split(","))


def forbids_xla(options: Options, given: Collection[str]) -> bool:
    """Whether graphs are to be refused XLA, as TensorFlow Serving does by default: only where a flag says so here."""
    is_told = "xla_cpu_compilation_enabled" in given or "xla_gpu_compilation_enabled" in given
    return is_told and not (options.xla_cpu_compilation_enabled or options.xla_gpu_compilation_enabled)


def listed(value: str) -> list[str]:
    """The items of a flag that holds a list with commas in between."""
    return [item for item in value.split(",") if item]


_BYTES_PER_CALL = 64 << 10
"""What a small call in flight takes, generously counted: its bodies, its tasks, its place in queues."""


def inflight_limits(options: Options, available_bytes: int) -> tuple[int, int]:
    """The most calls in flight, and the most bytes of their bodies, on a machine with so much memory to give."""
    share = max(available_bytes // 4, 64 << 20)
    return options.max_inflight_calls or share // _BYTES_PER_CALL, options.max_inflight_bytes or share


_MOST_CONNECTIONS = 1 << 14
_OTHER_FILES = 256
"""What models, logs and libraries have open."""


def connection_limit(options: Options, open_files: int) -> int:
    """The most connections of each port, for a process that may have so many files open."""
    return options.max_connections or min(_MOST_CONNECTIONS, max(64, (open_files - _OTHER_FILES) // 2))


def markdown() -> str:
    """The text of docs/flags.md."""
    theirs = [_row(name, flag) for name, flag in FLAGS.items() if not flag.ours]
    ours = [_row(name, flag) for name, flag in FLAGS.items() if flag.ours]
    return _MARKDOWN.format(theirs="\n".join(theirs), ours="\n".join(ours))


def _row(name: str, flag: Flag) -> str:
    default = flag.default_in_words or f"`{_written(flag.kind, getattr(Options(), name))}`"
    star = " \\*" if flag.of_platform else ""
    return f"| `--{name}`{star} | {flag.kind} | {default} | {_effect_in_words(flag)} | {flag.help} |"


_MARKDOWN = """\
# Flags

<!-- Written by `python -m pyserving.options --markdown`. -->

A flag is written `--name=value`; a boolean also `--name` or `--noname`; `-` and `_` in names are the same. The last one
given counts. A value that cannot be read ends the server with status 255; an unknown argument is reported, and the
server goes on. `--help` lists all flags, `--version` prints versions.

"not applicable": accepted, and named in a warning at start-up. "refused": asks for a protection that is not built yet,
so the server does not start with it. \\*: not read beside `--platform_config_file`, which says it for each platform.

## TensorFlow Serving's

| flag | type | default | effect | meaning |
|---|---|---|---|---|
{theirs}

## pyserving's own

| flag | type | default | effect | meaning |
|---|---|---|---|---|
{ours}
"""


if __name__ == "__main__":
    if sys.argv[1:] != ["--markdown"]:
        sys.exit("usage: python -m pyserving.options --markdown")
    sys.stdout.write(markdown())
