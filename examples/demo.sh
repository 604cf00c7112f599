#!/bin/sh
# The main job on the embedded default: fragments -> MongoDB -> workers -> HDF5, table and picture.
# Called by `make demo`, which sets BIN (where qfarm is installed) and DEMO (the farm's folder).
set -eu
examples=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$DEMO"
cd "$DEMO"
PATH="$BIN:$PATH"
export PATH

say() { printf '\n$ %s\n' "$*"; "$@"; }

qfarm up
trap 'qfarm down' EXIT
say qfarm submit "$examples/fragments.extxyz" --protocol demo
say qfarm run || [ $? -eq 3 ]  # 3: some fragments failed; what is done is worth showing
say qfarm status
say qfarm export dataset.h5 --overwrite
say python "$examples/report.py" dataset.h5 dataset.png

# A path as the shell reads it back: in single quotes when it holds more than plain characters.
quoted() {
    case $1 in
    *[!A-Za-z0-9_./+:@%-]*) printf "'"; printf %s "$1" | sed "s/'/'\\\\''/g"; printf "'" ;;
    *) printf %s "$1" ;;
    esac
}

cat <<END

The farm is in $DEMO. To go on with it:
  cd $(quoted "$(pwd)")
  PATH=$(quoted "$BIN"):\$PATH
  qfarm up            start its MongoDB again
  qfarm list          every stage of every fragment
  qfarm show ID       one of them: geometry, attempts, SCF trace, verdict
END
