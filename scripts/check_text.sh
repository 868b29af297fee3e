#!/usr/bin/env bash
# What a newcomer would trip over, looked for in the tracked files: machine paths, registry hosts, unfinished work.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0
refuse() {
  local what=$1 found=$2
  [ -z "$found" ] && return 0
  printf 'check_text: %s:\n%s\n' "$what" "$found" >&2
  status=1
}
files() { git grep -nIE "$1" -- . ':!scripts/check_text.sh' ':!LICENSE' || true; }

refuse "a path of some machine" "$(files '(^|[^A-Za-z0-9_.])/(work|home|root|Users)/')"
refuse "a package registry's host" "$(files '(registry\.npmjs\.org|pypi\.org/simple|files\.pythonhosted\.org|static\.crates\.io|index\.crates\.io|proxy\.golang\.org|repo1?\.maven)')"
refuse "a word that marks unfinished work" "$(git grep -nwE 'TODO|FIXME|XXX|HACK|NotImplementedError|todo!|unimplemented!' -- python rust tests scripts benches ':!scripts/check_text.sh' || true)"
refuse "a skipped test without a reason" "$(git grep -nE '@pytest\.mark\.(skip|xfail)\b *$|pytest\.skip\( *\)|#\[ignore\]' -- tests rust || true)"
[ $status = 0 ] && echo "check_text: nothing found"
exit $status
