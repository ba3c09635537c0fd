#!/usr/bin/env bash
# All that wants a GPU, by one command in under nine minutes, on a machine without network: bench/gpu.sh [--dry-run] OUT
# bench/README.md says what has to lie where and what comes out.
set -u
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stages=${FEDLPS_GPU_STAGES:-$here/bench/gpu/stages.sh}
GRACE=1  # seconds between asking a stage to end and ending it
FOUND=99 # what a sanitizer that found something ends with

dry=
if [ "${1-}" = --dry-run ]; then
    dry=yes
    shift
fi
if [ $# -ne 1 ]; then
    echo "usage: bench/gpu.sh [--dry-run] OUT" >&2
    exit 2
fi

budget=0  # of all stages, seconds
wrong=    # the first stage that showed something wrong
failed=0  # how many stages did not come to a good end
table=()

# stage NAME KIND SECONDS COMMAND...: one stage within its time; its output goes to OUT/NAME.log.
# Kinds: "proof", whose failure ends the run before the measurements that follow; "sanitizer", of which only the code
# FOUND does, for the tool may not serve the machine; "measure", which stops nothing.
stage() {
    local name=$1 kind=$2 seconds=$3
    shift 3
    budget=$((budget + seconds + GRACE))
    if [ -n "$dry" ]; then
        printf '%-10s %-9s %4d s  %s\n' "$name" "$kind" "$seconds" "$*"
        return
    fi
    if [ "$kind" = measure ] && [ -n "$wrong" ]; then
        note "$name" "$kind" "left out" 0 0 "$seconds" "after a wrong result in $wrong"
        return
    fi
    local log=$OUT/$name.log began=$EPOCHREALTIME code=0 status=ok
    printf '== %s (%d s at most): %s\n' "$name" "$seconds" "$*"
    timeout --kill-after="$GRACE" "$seconds" "$@" > "$log" 2>&1 < /dev/null || code=$?
    local took
    took=$(awk -v from="$began" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }')
    case $code in
        0) ;;
        124 | 137) status="out of time" ;; # says nothing of what was computed
        126 | 127) status="not here" ;;
        *)
            status=FAILED
            case $kind:$code in
                proof:* | sanitizer:"$FOUND") wrong=${wrong:-$name} ;;
            esac
            ;;
    esac
    if [ "$code" -ne 0 ]; then failed=$((failed + 1)); fi
    grep '^{.*}$' "$log" >> "$OUT/results.jsonl"
    note "$name" "$kind" "$status" "$code" "$took" "$seconds" "$(grep -v '^{' "$log" | grep . | tail -n 1)"
}

# note NAME KIND STATUS CODE TOOK SECONDS LAST: a line of the table, and one of the results.
note() {
    local last
    last=$(printf '%s' "$7" | tr -cd '[:print:]' | cut -c 1-160)
    table+=("$(printf '%-10s %-9s %-11s %6s of %4s s  %s' "$1" "$2" "$3" "$5" "$6" "$last")")
    last=${last//\\/\\\\}
    printf '{"stage": "%s", "kind": "%s", "status": "%s", "code": %d, "seconds": %s, "budget_s": %s, "last": "%s"}\n' \
        "$1" "$2" "$3" "$4" "$5" "$6" "${last//\"/\\\"}" >> "$OUT/results.jsonl"
}

if [ -z "$dry" ]; then
    mkdir -p "$1" || exit 2
    OUT=$(cd "$1" && pwd) || exit 2
    : > "$OUT/results.jsonl"
    exec > >(tee "$OUT/log.txt") 2>&1
else
    OUT=$1
fi
export OUT FOUND
cd "$here" || exit 2

# shellcheck source=bench/gpu/stages.sh
. "$stages"

if [ -n "$dry" ]; then
    echo "$budget s at most"
    exit 0
fi
echo
printf '%s\n' "${table[@]}"
if [ -n "$wrong" ]; then echo "wrong result in: $wrong"; fi
echo "$failed of ${#table[@]} stages failed; results in $OUT/results.jsonl"
[ "$failed" -eq 0 ] && [ -z "$wrong" ]
