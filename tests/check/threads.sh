#!/usr/bin/env bash
# threads.sh PROGRAM: runs a test on the build with the thread sanitizer, which has nothing to find where no thread is started.
set -euo pipefail
if nm -u "$1" | grep -E ' (pthread_create|rocksdb_open)' >/dev/null; then
    exec "$1"
fi
echo "$(basename "$1") starts no thread"
