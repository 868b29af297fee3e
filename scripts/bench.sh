#!/usr/bin/env bash
# Measures and writes benches/results/. Usage: bench.sh [SUITE…]; without a name, all of them. With FILMS=FILE, a
# gzipped file of films with a JSON object a line, the filter suite asks of them too.
set -euo pipefail
cd "$(dirname "$0")/.."
ALL="splice merge origin history proxy warm cache writes filter shards snapshot client"
suites=${*:-$ALL}
date=$(date -u +%F)
mkdir -p benches/results

measure() {
  local program=$1 name=$2; shift 2
  .venv/bin/python "benches/$program.py" "$@" --out "benches/results/$date-$name.json"
}

peers() {
  .venv/bin/pip install --quiet --requirement benches/requirements.txt
}

for suite in $suites; do
  printf '\033[1mbench: %s\033[0m\n' "$suite"
  case $suite in
    proxy)
      scripts/system_packages.sh nginx wrk
      cargo build --quiet --release --manifest-path benches/peers/json-proxy/Cargo.toml
      measure gateway/proxy proxy
      measure gateway/proxy proxy-tls --tls ;;
    origin) measure origin/scale origin ;;
    splice | merge) measure "kernels/$suite" "$suite" ;;
    history | writes | shards | snapshot) measure "gateway/$suite" "$suite" ;;
    warm)
      measure gateway/warm warm
      measure gateway/warm warm-together --together ;;
    cache)
      scripts/system_packages.sh redis-server
      peers
      measure cache/peers cache ;;
    filter)
      peers
      measure kernels/filter filter ${FILMS:+--films "$FILMS"}
      measure gateway/scan scan ;;
    client)
      .venv/bin/python -c "import sys; sys.path.insert(0, 'scripts'); import published_client as client; \
        client.prepare_environment(client.CACHE / 'published-venv', client.PACKAGES)"
      measure client/overhead client ;;
    *) echo "bench: no suite is called $suite ($ALL)" >&2; exit 1 ;;
  esac
done
