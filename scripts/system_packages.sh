#!/usr/bin/env bash
# Installs the system packages that the named tools come from, where they are missing.
# Usage: system_packages.sh TOOL…   (go, node, nginx, wrk, victoria-metrics, redis-server)
set -euo pipefail

declare -A package=([go]=golang-go [node]=nodejs [npm]=npm [nginx]=nginx-light [wrk]=wrk
  [victoria-metrics]=victoria-metrics [redis-server]=redis-server)
missing=()
for tool in "$@"; do
  command -v "$tool" >/dev/null 2>&1 || [ -x "/usr/sbin/$tool" ] || missing+=("${package[$tool]:?unknown tool $tool}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "system packages: please install: ${missing[*]} (no apt-get here to do it with)" >&2
  exit 1
fi
echo "system packages: installing ${missing[*]}"
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || {
  echo "system packages: apt-get could not install: ${missing[*]}" >&2; exit 1; }
