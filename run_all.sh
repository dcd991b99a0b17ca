#!/usr/bin/env bash
# Regenerates every figure of the study: makes the environment, then hands over to lib/__main__.py.
#   ./run_all.sh [--profile NAME | --smoke] [--only 01,05] [--set KEY=VALUE ...]
#   ./run_all.sh test [pytest's options]
#   ./run_all.sh book
#   ./run_all.sh search [--profile NAME]
#   ./run_all.sh fits --gpu GIB [--student MODEL --teacher MODEL --method NAME ...]
#   ./run_all.sh plan --profile NAME [--student MODEL ...] [--gpu GIB] [--price EUROS]
#   ./run_all.sh export [--profile NAME --method NAME --support N --seed S --to FOLDER]
#   ./run_all.sh init FILE
#   ./run_all.sh check --profile NAME
#   ./run_all.sh ask --profile NAME TEXT
#   ./run_all.sh [search | fits | plan | export | init | check | ask] --help
set -euo pipefail
from=$PWD # a path of the user's is meant from there
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

die() { echo "error: $*" >&2; exit 2; }

# The pinned list is the pip section of environment.yml, and only there. Its -c line is conda's: make_venv gives its own.
requirements() { sed -n '/^      - -c /d; /^  - pip:/,$ s/^      - \(-e \.\|[^ #]*\).*/\1/p' environment.yml; }

find_python() {
  for candidate in python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  die "Python 3.11, 3.12 or 3.13 is needed, and none was found (looked for python3, python3.13, python3.12, python3.11)."
}

unmade="could not make the environment: the lines above say why (is there a network, and room on the disk?).
The same command goes on from here."

# An environment is complete when the lists that it was made from are noted in it; an older or half-made one is redone.
made_from() { cat environment.yml constraints.txt; }
complete() { [ -f "$1/.made-from" ] && made_from | cmp -s - "$1/.made-from"; }

make_conda() { # $1: conda or mamba
  echo "Making the environment .conda with $1 (once)."
  if [ -d .conda/conda-meta ]; then action=update; else action=create; fi
  "$1" env "$action" --quiet --prefix "$PWD/.conda" --file environment.yml || die "$1 $unmade"
  made_from >.conda/.made-from
}

make_venv() {
  local python tool=pip install=(.venv/bin/python -m pip install --disable-pip-version-check)
  python=$(find_python)
  echo "Making the environment .venv with $("$python" --version) (once; some minutes, mostly torch)."
  .venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv || die "$python -m venv $unmade"
  requirements >.venv/requirements.txt
  if command -v uv >/dev/null; then tool=uv install=(uv pip install --python .venv/bin/python); fi # faster, the same versions
  "${install[@]}" --quiet -c constraints.txt -r .venv/requirements.txt || die "$tool $unmade"
  made_from >.venv/.made-from
}

# Prints nothing when an active environment has what the list pins, else what it lacks.
lacking() { # $1: python
  requirements | "$1" -c '
import sys
from importlib.metadata import PackageNotFoundError, version
for line in sys.stdin.read().split():
    name, pinned, wanted = line.partition("==")
    if pinned:
        try:
            found = version(name).partition("+")[0]
        except PackageNotFoundError:
            found = "not there"
        if found != wanted:
            print(f"  {name}: {wanted} is pinned, {found}")
'
}

choose_python() { # sets $python
  if [ -n "${VIRTUAL_ENV:-}" ] || { [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" != base ]; }; then
    python="${VIRTUAL_ENV:-$CONDA_PREFIX}/bin/python"
    [ -x "$python" ] || die "the active environment ${VIRTUAL_ENV:-$CONDA_PREFIX} has no bin/python. Deactivate it."
    local missing
    missing=$(lacking "$python")
    [ -z "$missing" ] || die "the active environment ${VIRTUAL_ENV:-$CONDA_PREFIX} differs from environment.yml:
$missing
Deactivate it, and this script makes its own; or update it from environment.yml."
    return
  fi
  for conda in mamba conda; do
    if command -v "$conda" >/dev/null; then
      complete .conda || make_conda "$conda"
      python="$PWD/.conda/bin/python"
      return
    fi
  done
  complete .venv || make_venv
  python="$PWD/.venv/bin/python"
}

export PYTHONPATH="$PWD"
case " $* " in
  *" --help "* | *" -h "*) # needs no environment
    python=$(find_python)
    exec "$python" -P -m lib "$@"
    ;;
esac
choose_python
if [ "${1:-}" = test ]; then
  shift
  "$python" -m ruff check .
  "$python" -m ruff format --check .
  exec "$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
fi
cd "$from"
exec "$python" -P -m lib "$@" # -P: a folder of the user's that is called lib as well is not imported
