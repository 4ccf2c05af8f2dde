#!/bin/sh
# Starts the server as TensorFlow Serving's image does: which model by MODEL_NAME and MODEL_BASE_PATH, further flags as arguments.
# The server takes this script's place (exec), so that signals reach it and its exit code is the container's.
set -eu

model_name=${MODEL_NAME:-model}
model_base_path=${MODEL_BASE_PATH:-/models}

exec tensorflow_model_server \
    --port=8500 \
    --rest_api_port=8501 \
    --model_name="$model_name" \
    --model_base_path="$model_base_path/$model_name" \
    "$@"
