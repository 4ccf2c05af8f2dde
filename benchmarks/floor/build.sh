#!/bin/sh
# Builds the floor into the folder $1 (default: .bench/floor at the root of the repository).
# Debian: apt-get install g++ pkg-config libgrpc++-dev protobuf-compiler-grpc libprotobuf-dev
set -e
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../.bench/floor}
mkdir -p "$out"
cd "$out"
protoc -I"$here" --cpp_out=. --grpc_out=. --plugin=protoc-gen-grpc="$(command -v grpc_cpp_plugin)" "$here/predict.proto"
# shellcheck disable=SC2046  # the flags are words of their own
g++ -O2 -std=c++17 -I. "$here/floor.cc" predict.pb.cc predict.grpc.pb.cc -o floor \
    $(pkg-config --cflags --libs grpc++ protobuf) -ldl
