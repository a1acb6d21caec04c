#!/usr/bin/env bash
# Follow the next run from creation to scorecard with a shell and NATS subjects, nothing else: no client library, no
# Tunix-RT code. It speaks NATS' text protocol on a socket; with the `nats` command the same is `nats sub 'tunix.evt.>'`.
#
#   examples/follow_run.sh HOST PORT [USER PASSWORD] [RUN_ID]
#
# Prints a line per event and ends with the scorecard of the run's first completed evaluation.
set -euo pipefail
export LC_ALL=C
host=${1:?host} port=${2:?port} user=${3:-} password=${4:-} run=${5:-}

exec 3<>"/dev/tcp/$host/$port"
IFS= read -r _info <&3 # INFO {...}
if [ -n "$user" ]; then
  connect="{\"verbose\":false,\"headers\":true,\"user\":\"$user\",\"pass\":\"$password\"}"
else
  connect='{"verbose":false,"headers":true}'
fi
printf 'CONNECT %s\r\nSUB tunix.evt.run.> 1\r\nSUB tunix.evt.evaluation.> 2\r\nPING\r\n' "$connect" >&3

field() { grep -oE "\"$1\":(\"[^\"]*\"|[-0-9.e]+)" <<<"$2" | head -n 1 | cut -d: -f2- | tr -d '"' || true; }

while IFS= read -r line <&3; do
  line=${line%$'\r'}
  case $line in
    PING) printf 'PONG\r\n' >&3; continue ;;
    PONG) echo "following ${run:-the next run}"; continue ;;
    -ERR*) echo "nats: $line" >&2; exit 1 ;;
    MSG\ * | HMSG\ *) ;;
    *) continue ;;
  esac
  # HMSG <subject> <sid> [reply] <header bytes> <total bytes>  |  MSG <subject> <sid> [reply] <bytes>
  read -ra word <<<"$line"
  total=${word[-1]} header=0
  [ "${word[0]}" = HMSG ] && header=${word[-2]}
  subject=${word[1]}
  IFS= read -r -d '' -N "$((total + 2))" message <&3
  body=${message:header:total-header}
  kind=${subject#tunix.evt.} kind=${kind%.*}
  id=${subject##*.}
  if [[ $kind == run.* ]]; then
    [ -n "$run" ] || { [ "$kind" = run.created ] && run=$id; }
    [ "$id" = "$run" ] || continue
    echo "$kind $id"
    case $kind in run.failed | run.cancelled) exit 1 ;; esac
  elif [ -n "$run" ] && [ "$(field runId "$body")" = "$run" ]; then
    echo "$kind $id"
    if [ "$kind" = evaluation.succeeded ]; then
      card=${body#*\"scorecard\":}
      echo "scorecard $id primary_score $(field primaryScore "$card") [$(field ciLow "$card"), $(field ciHigh "$card")]"
      exit 0
    fi
    case $kind in evaluation.failed | evaluation.cancelled) exit 1 ;; esac
  fi
done
