#!/bin/sh
# Builds the load generator into the folder $1 (default: .bench/generator at the root of the repository).
# Debian: apt-get install g++ libnghttp2-dev
set -e
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../.bench/generator}
mkdir -p "$out"
g++ -O2 -std=c++17 -Wall -Wextra "$here/generator.cc" -o "$out/generator" -lnghttp2
