"""The command line, word by word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pyserving.errors import InvalidArgument
from pyserving.machine import schedulable_cpus
from pyserving.options import (
    FLAGS,
    Effect,
    Options,
    channel_arguments,
    connection_limit,
    forbids_xla,
    inflight_limits,
    markdown,
    parse,
    remote_poll_seconds,
    saved_model_tags,
    startup_warning,
    transition_patience_seconds,
    transition_threads,
    usage,
    validate,
)

SERVING = Options(model_base_path="/models/m")
FOUR_PER_CPU = 4 * schedulable_cpus()

# As the contract lists them, but for the health service, which is on here.
DEFAULTS = f"""
port int32 8500
grpc_socket_path string ""
rest_api_port int32 0
rest_api_num_threads int32 {FOUR_PER_CPU}
rest_api_timeout_in_ms int32 30000
rest_api_enable_cors_support bool false
enable_batching bool false
allow_version_labels_for_unavailable_models bool false
batching_parameters_file string ""
enable_per_model_batching_parameters bool false
model_config_file string ""
model_config_file_poll_wait_seconds int32 0
model_name string "default"
model_base_path string ""
num_load_threads int32 0
num_unload_threads int32 0
max_num_load_retries int32 5
load_retry_interval_micros int64 60000000
file_system_poll_wait_seconds int32 1
flush_filesystem_caches bool true
tensorflow_session_parallelism int64 0
tensorflow_session_config_file string ""
tensorflow_intra_op_parallelism int64 0
tensorflow_inter_op_parallelism int64 0
use_alts_credentials bool false
ssl_config_file string ""
platform_config_file string ""
per_process_gpu_memory_fraction float 0.000000
saved_model_tags string "serve"
grpc_channel_arguments string ""
grpc_max_threads int32 {FOUR_PER_CPU}
enable_model_warmup bool true
num_request_iterations_for_warmup int32 0
version bool false
monitoring_config_file string ""
remove_unused_fields_from_bundle_metagraph bool true
prefer_tflite_model bool false
num_tflite_pools int32 {schedulable_cpus()}
num_tflite_interpreters_per_pool int32 1
enable_signature_method_name_check bool false
xla_cpu_compilation_enabled bool false
xla_gpu_compilation_enabled bool false
enable_profiler bool true
thread_pool_factory_config_file string ""
mixed_precision string ""
skip_initialize_tpu bool false
enable_grpc_healthcheck_service bool true
enable_serialization_as_tensor_content bool false
"""


def test_every_flag_of_tensorflow_serving_has_its_type_and_default():
    lines = [line.lstrip("\t").split("\t") for line in usage("p").splitlines()[2:]]
    shown = {(*setting.strip().removeprefix("--").split("=", 1), kind) for setting, kind, _ in lines}
    contract = {(name, default, kind) for name, kind, default in (row.split() for row in DEFAULTS.split("\n") if row)}

    assert {row for row in shown if not FLAGS[row[0]].ours} == contract


def test_no_words_give_the_defaults():
    parsed = parse([])

    assert parsed.options == Options()
    assert (parsed.given, parsed.stdout, parsed.stderr, parsed.exit_status) == (frozenset(), "", "", None)


@pytest.mark.proves("difference: Flags")
@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("--port=85", "port", 85),
        ("--port=-1", "port", -1),
        ("--port=2147483647", "port", 2147483647),
        ("--load_retry_interval_micros=-9223372036854775808", "load_retry_interval_micros", -(2**63)),
        ("--per_process_gpu_memory_fraction=.25", "per_process_gpu_memory_fraction", 0.25),
        ("--per_process_gpu_memory_fraction=1e-1", "per_process_gpu_memory_fraction", 0.1),
        ("--model_name=a=b, c", "model_name", "a=b, c"),
        ("--model_name=", "model_name", ""),
        ("--enable_batching", "enable_batching", True),
        ("--enable_batching=TRUE", "enable_batching", True),
        ("--enable_batching=1", "enable_batching", True),
        ("--enable_model_warmup=False", "enable_model_warmup", False),
        ("--enable_model_warmup=0", "enable_model_warmup", False),
        ("--noenable_model_warmup", "enable_model_warmup", False),
        ("--noenable-model-warmup", "enable_model_warmup", False),
        ("--model-base-path=/m", "model_base_path", "/m"),
        ("--num_load_threads=8", "num_load_threads", 8),
    ],
)
def test_word_sets_its_flag(word, name, value):
    parsed = parse([word])

    assert parsed.options == replace(Options(), **{name: value})
    assert parsed.given == {name}
    assert (parsed.stdout, parsed.stderr, parsed.exit_status) == ("", "", None)


def test_later_word_wins():
    assert parse(["--port=1", "--port=2"]).options.port == 2


def test_flag_is_given_even_with_its_default_value():
    assert parse(["--grpc_max_threads=" + str(FOUR_PER_CPU)]).given == {"grpc_max_threads"}


@pytest.mark.parametrize(
    ("word", "value", "name"),
    [
        ("--port=85a", "85a", "port"),
        ("--port=", "", "port"),
        ("--port= 85", " 85", "port"),
        ("--port=8_5", "8_5", "port"),
        ("--port=٨٥", "٨٥", "port"),
        ("--port=2147483648", "2147483648", "port"),
        ("--load-retry-interval-micros=9223372036854775808", "9223372036854775808", "load_retry_interval_micros"),
        ("--enable_batching=yes", "yes", "enable_batching"),
        ("--enable_batching=", "", "enable_batching"),
        ("--per_process_gpu_memory_fraction=half", "half", "per_process_gpu_memory_fraction"),
        ("--per_process_gpu_memory_fraction=0.5 ", "0.5 ", "per_process_gpu_memory_fraction"),
    ],
)
def test_value_that_cannot_be_read_ends_the_process_with_usage(word, value, name):
    parsed = parse([word, "--version"], "server")

    assert parsed.stderr == f"Couldn't interpret value {value} for flag {name}.\n"
    assert parsed.stdout == usage("server")
    assert parsed.exit_status == 255


def test_every_bad_value_is_named():
    assert parse(["--port=a", "--rest_api_port=b"]).stderr.count("Couldn't interpret value") == 2


@pytest.mark.parametrize(
    "word",
    ["--prot=8500", "-port=8500", "port", "--port", "--noport", "--nomodel_name", "--noenable_batching=1", "--no"],
)
def test_unknown_argument_is_shown_and_the_server_goes_on(word):
    parsed = parse([word, "another", "--model_name=m"], "server")

    assert parsed.stdout == f"unknown argument: {word}\n{usage('server')}"
    assert (parsed.stderr, parsed.exit_status) == ("", None)
    assert parsed.options == replace(Options(), model_name="m")


def test_value_in_a_word_of_its_own_is_not_recognised():
    parsed = parse(["--port", "8500"])

    assert parsed.stdout.startswith("unknown argument: --port\n")
    assert parsed.given == frozenset()


def test_words_after_a_lone_double_dash_are_left_alone():
    parsed = parse(["--port=1", "--", "--port=2", "--rest_api_port=x"])

    assert parsed.options == replace(Options(), port=1)
    assert (parsed.stderr, parsed.exit_status) == ("", None)


def test_help_shows_usage():
    parsed = parse(["--port=1", "--help", "what"], "server")

    assert (parsed.stdout, parsed.stderr, parsed.exit_status) == (usage("server"), "", 255)


def test_help_after_another_unknown_argument_is_one_itself():
    parsed = parse(["what", "--help"], "server")

    assert parsed.stdout.startswith("unknown argument: what\nusage: server\n")
    assert parsed.exit_status is None


def test_version_prints_two_lines_and_ends_well():
    parsed = parse(["--version", "what"])

    server, library = parsed.stdout.splitlines()
    assert server.startswith("TensorFlow ModelServer: ")
    assert library.startswith("TensorFlow Library: ")
    assert library[-1].isdigit()
    assert (parsed.stderr, parsed.exit_status) == ("", 0)


def test_usage_pads_settings_and_separates_with_tabs():
    lines = usage("/usr/bin/server").splitlines()

    assert lines[:2] == ["usage: /usr/bin/server", "Flags:"]
    assert lines[2].startswith("\t--port=8500                      \tint32\t")
    assert '\t--model_name="default"           \tstring\t' in "\n".join(lines)


def test_usage_shows_other_values_than_the_defaults():
    assert "\t--enable_batching=true           \tbool\t" in usage("server", Options(enable_batching=True))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            Options(port=0),
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.",
        ),
        (
            Options(use_alts_credentials=True, ssl_config_file="/ssl"),
            "Either use_alts_credentials must be false or ssl_config_file must be empty.",
        ),
        (
            Options(use_alts_credentials=True),
            "--use_alts_credentials is not supported yet, and the server does not start unprotected.",
        ),
        (
            Options(batching_parameters_file="/b"),
            "Both server_options.model_base_path and server_options.model_config_file are empty!",
        ),
        (
            replace(SERVING, batching_parameters_file="/b", tensorflow_session_parallelism=1),
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true.",
        ),
        (
            replace(
                SERVING,
                tensorflow_session_parallelism=1,
                tensorflow_intra_op_parallelism=2,
                tensorflow_inter_op_parallelism=3,
            ),
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all.",
        ),
        (replace(SERVING, grpc_max_threads=0), "--grpc_max_threads must be 1 or more; was 0"),
        (replace(SERVING, shutdown_grace_seconds=-1.0), "--shutdown_grace_seconds must be 0 or more; was -1.0"),
        (replace(SERVING, shutdown_grace_seconds=float("nan")), "--shutdown_grace_seconds must be 0 or more; was nan"),
        (replace(SERVING, log_format="xml"), "--log_format must be one of text, json; was 'xml'"),
        (replace(SERVING, log_level="loud"), "--log_level must be one of debug, info, warning, error; was 'loud'"),
        (
            replace(SERVING, aspired_version_policy="none"),
            "--aspired_version_policy must be one of availability_preserving, resource_preserving; was 'none'",
        ),
        (
            replace(SERVING, grpc_channel_arguments="grpc.so_reuseport"),
            "--grpc_channel_arguments must be a list of key=value; an item was 'grpc.so_reuseport'",
        ),
    ],
)
def test_flags_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(InvalidArgument) as caught:
        validate(options)
    assert caught.value.message == sentence


@pytest.mark.parametrize(
    "options",
    [
        SERVING,
        Options(model_config_file="/models.config"),
        replace(SERVING, port=0, grpc_socket_path="/tmp/s"),
        replace(SERVING, batching_parameters_file="/b", enable_batching=True),
        replace(SERVING, batching_parameters_file="/b", platform_config_file="/p"),
        replace(SERVING, tensorflow_session_parallelism=1, tensorflow_intra_op_parallelism=2),
    ],
)
def test_flags_that_can_be_pass(options):
    assert validate(options) is None


def test_startup_warning_names_only_what_was_given_and_does_nothing():
    given = parse(["--port=1", "--enable_batching", "--rest_api_num_threads=8", "--skip_initialize_tpu"]).given

    assert startup_warning(given) == (
        "Flags that change nothing here: --rest_api_num_threads (not applicable: a request occupies no thread), "
        "--skip_initialize_tpu (not applicable: TPUs are not used)"
    )


def test_startup_warning_is_silent_when_every_flag_works():
    assert startup_warning({"port", "model_name"}) is None


def test_startup_warning_names_what_a_platform_config_file_makes_moot():
    given = {"platform_config_file", "model_name", "enable_batching", "mixed_precision"}

    assert startup_warning(given) == (
        "Flags that change nothing here: --mixed_precision (--platform_config_file says it), "
        "--enable_batching (--platform_config_file says it)"
    )


@pytest.mark.parametrize(
    ("words", "is_forbidden"),
    [
        ([], False),
        (["--xla_cpu_compilation_enabled"], False),
        (["--noxla_cpu_compilation_enabled"], True),
        (["--xla_gpu_compilation_enabled=false"], True),
        (["--noxla_cpu_compilation_enabled", "--xla_gpu_compilation_enabled"], False),
    ],
)
def test_xla_is_forbidden_only_where_a_flag_says_so(words, is_forbidden):
    parsed = parse(words)
    assert forbids_xla(parsed.options, parsed.given) is is_forbidden


def test_only_security_flags_are_refused():
    refused = {name for name, flag in FLAGS.items() if flag.effect is Effect.REFUSED}
    assert refused == {"use_alts_credentials"}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", []),
        (
            "grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb,grpc.so_reuseaddr=1",
            [("grpc.max_connection_age_ms", 2000), ("grpc.lb_policy_name", "grpclb"), ("grpc.so_reuseaddr", 1)],
        ),
        ("a=-1", [("a", -1)]),
        ("a=3000000000", [("a", "3000000000")]),
        ("a=", [("a", "")]),
        ("a=b=c", [("a", "b")]),
    ],
)
def test_channel_arguments_are_numbers_where_they_can_be(text, arguments):
    assert channel_arguments(Options(grpc_channel_arguments=text)) == arguments


@pytest.mark.parametrize("text", ["a", "a=1,", "a=1,b"])
def test_channel_argument_without_a_value_is_refused(text):
    with pytest.raises(InvalidArgument, match="must be a list of key=value"):
        channel_arguments(Options(grpc_channel_arguments=text))


@pytest.mark.parametrize(("text", "tags"), [("serve", {"serve"}), ("serve,gpu", {"serve", "gpu"}), ("", {"serve"})])
def test_saved_model_tags_are_a_set(text, tags):
    assert saved_model_tags(Options(saved_model_tags=text)) == tags


def test_inflight_limits_come_from_memory():
    assert inflight_limits(Options(), 4 << 30) == (16384, 1 << 30)


def test_inflight_limits_come_from_flags_when_given():
    assert inflight_limits(Options(max_inflight_calls=7, max_inflight_bytes=100), 4 << 30) == (7, 100)


def test_inflight_limits_leave_room_on_a_small_machine():
    assert inflight_limits(Options(), 0) == (1024, 64 << 20)


@pytest.mark.parametrize(
    ("wished", "open_files", "limit"), [(0, 1 << 20, 16384), (0, 1024, 384), (0, 100, 64), (7, 1024, 7)]
)
def test_connections_are_as_many_as_wished_or_as_the_files_allow(wished, open_files, limit):
    assert connection_limit(Options(max_connections=wished), open_files) == limit


def test_documentation_of_flags_is_what_the_code_writes():
    documented = Path(__file__).parent.parent / "docs" / "flags.md"
    assert documented.read_text(encoding="utf-8") == markdown()


@pytest.mark.parametrize(("wished", "cpus", "threads"), [(0, 2, 8), (0, 64, 64), (1, 64, 1), (12, 2, 12)])
def test_threads_that_load_are_as_many_as_wished_or_enough_for_slow_ones(wished, cpus, threads):
    assert transition_threads(wished, cpus) == threads


def test_threads_stand_in_for_slow_loads_unless_their_number_was_given():
    assert transition_patience_seconds(0) == 30
    assert transition_patience_seconds(1) is None


@pytest.mark.parametrize(
    ("wished", "poll_and_least"), [(None, (60, 60)), (300, (300, 60)), (1, (1, 1)), (0, (0, 60)), (-1, (0, 60))]
)
def test_remote_versions_that_settle_are_looked_at_no_oftener_than_every_minute_unless_wished(wished, poll_and_least):
    assert remote_poll_seconds(wished) == poll_and_least
