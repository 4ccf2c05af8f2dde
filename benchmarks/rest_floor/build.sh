#!/bin/sh
# Builds the REST floor, into $1 or .bench/rest_floor, against the TensorFlow of the Python at hand ($PYTHON or python3).
# Debian: g++ libevent-dev rapidjson-dev
set -e
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../.bench/rest_floor}
mkdir -p "$out"
tensorflow=$("${PYTHON:-python3}" -c \
  "import importlib.util as u; print(u.find_spec('tensorflow').submodule_search_locations[0])")
g++ -O2 -std=c++17 -I"$tensorflow/include" "$here/rest_floor.cc" -o "$out/rest_floor" -Wl,-rpath,"$tensorflow" \
  "$tensorflow/libtensorflow_cc.so.2" "$tensorflow/libtensorflow_framework.so.2" -levent -levent_pthreads -lpthread
echo "$out/rest_floor"
