#!/bin/sh
# Runs its arguments with the first Python >= 3.11 that this machine has, or with $PYTHON where that is set.
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'
for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$python" -c "$new_enough" 2>/dev/null; then
        exec "$python" "$@"
    fi
done
found=$("${PYTHON:-python3}" --version 2>&1) || found="none"
echo "songhua needs Python 3.11 or newer, found ${found}; install one or name it: make PYTHON=/path/to/python3.12 run" >&2
exit 2
