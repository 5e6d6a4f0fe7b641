#!/bin/sh
# Succeeds where a Node >= 20 with npm is installed.
command -v npm >/dev/null 2>&1 && node -e 'process.exit(parseInt(process.versions.node) < 20)' 2>/dev/null
