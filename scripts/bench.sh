#!/usr/bin/env bash
# Measures and writes benches/results/. Usage: bench.sh [proxy|origin|splice|merge|warm|history|shards|snapshot]; without a name, all of them.
set -euo pipefail
cd "$(dirname "$0")/.."
suites=${*:-splice merge origin history proxy warm shards snapshot}
date=$(date -u +%F)
mkdir -p benches/results

for suite in $suites; do
  printf '\033[1mbench: %s\033[0m\n' "$suite"
  case $suite in
    proxy)
      scripts/system_packages.sh nginx wrk
      cargo build --quiet --release --manifest-path benches/peers/json-proxy/Cargo.toml
      .venv/bin/python benches/gateway/proxy.py --out "benches/results/$date-proxy.json"
      .venv/bin/python benches/gateway/proxy.py --tls --out "benches/results/$date-proxy-tls.json" ;;
    origin) .venv/bin/python benches/origin/scale.py --out "benches/results/$date-origin.json" ;;
    splice) .venv/bin/python benches/kernels/splice.py --out "benches/results/$date-splice.json" ;;
    history) .venv/bin/python benches/gateway/history.py --out "benches/results/$date-history.json" ;;
    merge) .venv/bin/python benches/kernels/merge.py --out "benches/results/$date-merge.json" ;;
    warm) .venv/bin/python benches/gateway/warm.py --out "benches/results/$date-warm.json" ;;
    filter)
      .venv/bin/pip install --quiet --requirement benches/requirements.txt
      .venv/bin/python benches/kernels/filter.py --out "benches/results/$date-filter.json"
      .venv/bin/python benches/gateway/scan.py --out "benches/results/$date-scan.json" ;;
    shards) .venv/bin/python benches/gateway/shards.py --out "benches/results/$date-shards.json" ;;
    snapshot) .venv/bin/python benches/gateway/snapshot.py --out "benches/results/$date-snapshot.json" ;;
    *) echo "bench: no suite is called $suite (proxy, origin, splice, merge, warm, history, shards, snapshot, filter)" >&2; exit 1 ;;
  esac
done
