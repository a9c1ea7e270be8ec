#!/usr/bin/env bash
# Run everything that needs a GPU, in pieces of less than nine minutes each. The most informative pieces run first.
#
#   tests/gpu/run_all.sh wheels                             first, with a network: download wheels to tests/gpu/wheels
#   tests/gpu/run_all.sh [--dry-run] [--out DIR] [PIECE...] run the named pieces, or all of them
#
# The script can be interrupted and called again: a piece that succeeded (DIR/done/PIECE exists) is not run again, and a
# suite that ran out of time is continued. If a piece fails, the next ones still run. The script writes logs/, runs/,
# report/ and summary.md to DIR.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

PYTHON=${PYTHON:-python3}
OUT=${OUT:-results/gpu}
WHEELS=${WHEELS:-tests/gpu/wheels}
LIBRARIES=${LIBRARIES-xformers==0.0.35 sageattention==1.0.6} # attention libraries that `wheels` fetches
LIMIT=${LIMIT:-520} # seconds for each piece; a suite that is interrupted at the limit keeps its records
BUDGET=${BUDGET:-1} # seconds of sampling for each cell
DRY=false
SUITES=(standard gpt long-context llama decode bert vision gemma deepseek-mla translation varlen)
PIECES=(install smoke triton agreement "${SUITES[@]/#/suite-}" check caught faults studies report)

while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) DRY=true ;;
    --out) OUT=${2:?--out needs a folder}; shift ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) echo "run_all.sh: unknown option $1 (--dry-run, --out DIR)" >&2; exit 2 ;;
    *) CHOSEN+=("$1") ;;
  esac
  shift
done
CHOSEN=("${CHOSEN[@]:-${PIECES[@]}}")
SITE=$PWD/$OUT/site
case $OUT in /*) SITE=$OUT/site ;; esac

# Commands that the pieces use. `attnbench` runs from the installed wheel, not from the checkout.
attnbench() { PYTHONPATH=$SITE "$PYTHON" -m attnbench "$@"; }
script() { PYTHONPATH=$SITE "$PYTHON" "tests/gpu/$1.py" "${@:2}"; }

piece_install() {
  rm -rf "$SITE"
  "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$SITE" "$WHEELS"/*.whl &&
    attnbench --version
}
piece_smoke() {
  nvidia-smi && attnbench doctor
  attnbench list devices && attnbench list plugins && attnbench list variants &&
    attnbench run -s quick --dtype bfloat16 -d cuda --budget 0.3 --results "$OUT/runs" --name "smoke-$(date +%s)"
}
piece_triton() { # compares triton-flash with torch's backends, naive and chunked, in the forward pass and in training
  attnbench run -v 'triton-flash,sdpa-*,naive,chunked' -d cuda --heads 16 --head-dim 128 --dtype bfloat16 --mask causal \
    --seq 1024,2048,4096,8192,16384 --direction forward,forward_backward --budget "$BUDGET" --results "$OUT/runs" \
    --name "triton-$(date +%s)"
}
piece_agreement() { script agreement; }
piece_check() { attnbench check --all -d cuda; }
piece_caught() { script caught; }
piece_faults() {
  attnbench run -p tests/gpu/fault_pack.py -v 'fault-*' -d cuda --heads 2 --seq 64 --head-dim 16 --timeout 20 \
    --results "$OUT/runs-faults" --name "faults-$(date +%s)"
  script faults "$OUT/runs-faults"
}
piece_studies() {
  local bad=0 name
  for name in parallelism memory context bidirectional heads scaling-factor weights; do
    attnbench study "$name" -d cuda --results "$OUT/studies" --budget "$BUDGET" || bad=1
  done
  return $bad
}
piece_report() {
  script summary "$OUT/runs" >"$OUT/summary.md"
  attnbench report --results "$OUT/runs" --out "$OUT/report" "$OUT"/runs/*
  cat "$OUT/summary.md"
}
suite() { # runs a suite, or continues it if it was started before
  if [ -e "$OUT/runs/$1/manifest.json" ]; then
    attnbench run --resume "$OUT/runs/$1"
  else
    attnbench run -s "$1" -d cuda --budget "$BUDGET" --results "$OUT/runs" --name "$1"
  fi
}

wheels() {
  mkdir -p "$WHEELS" && rm -f "$WHEELS"/attnbench-*.whl
  "$PYTHON" -m build --quiet --wheel --outdir "$WHEELS" . || return
  # Download packages that are often missing on GPU images. torch, triton, numpy, pandas, pyarrow, scipy and matplotlib must
  # already be installed.
  # shellcheck disable=SC2086 # LIBRARIES is a list of requirements, separated by spaces
  "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --dest "$WHEELS" \
    typer rich shellingham annotated-doc pluggy nvidia-ml-py msgspec orjson psutil filelock $LIBRARIES
  ls "$WHEELS"
}

run_piece() {
  case $1 in
    suite-*) suite "${1#suite-}" ;;
    *) "piece_$1" ;;
  esac
}

if [ "${CHOSEN[*]}" = wheels ]; then wheels; exit; fi
for piece in "${CHOSEN[@]}"; do
  [[ " ${PIECES[*]} " == *" $piece "* ]] ||
    { echo "run_all.sh: unknown piece $piece; expected one of: ${PIECES[*]}" >&2; exit 2; }
done
if $DRY; then
  for piece in "${CHOSEN[@]}"; do
    [ -e "$OUT/done/$piece" ] && echo "$piece: done" || echo "$piece: to run, at most $LIMIT s"
  done
  exit
fi

mkdir -p "$OUT"/{logs,done,runs}
export -f attnbench script suite run_piece
for piece in "${PIECES[@]}"; do declare -F "piece_$piece" >/dev/null && export -f "piece_${piece?}"; done
export PYTHON OUT WHEELS SITE BUDGET
bad=0
for piece in "${CHOSEN[@]}"; do
  [ -e "$OUT/done/$piece" ] && { echo "$piece: already done"; continue; }
  started=$SECONDS
  timeout --signal INT --kill-after 15 "$LIMIT" bash -c 'run_piece "$1"' piece "$piece" >"$OUT/logs/$piece.log" 2>&1
  code=$?
  took=$((SECONDS - started))
  case $code in
    0) touch "$OUT/done/$piece"; echo "$piece: ok, $took s" ;;
    1) # some cells failed, and their records give the reasons; a run that reached its end is not repeated
      case $piece in suite-* | smoke | triton) touch "$OUT/done/$piece" ;; esac
      bad=1; echo "$piece: some cells or tests failed, $took s; see $OUT/logs/$piece.log" ;;
    124 | 130 | 137) bad=1; echo "$piece: out of time after $took s; run again to continue" ;;
    *) bad=1; echo "$piece: exit $code after $took s; $(tail -n 1 "$OUT/logs/$piece.log")" ;;
  esac
done
exit $bad
