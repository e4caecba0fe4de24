#!/usr/bin/env bash
# The real servers of `make test-sip` and `make bench`: installs those that are missing where it may (Debian or Ubuntu, as
# root), and otherwise says what to install.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"

declare -A package=(
  [haproxy]=haproxy [kamailio]=kamailio [sipp]=sip-tester [knotd]=knot [prometheus]=prometheus [openssl]=openssl
)
missing=()
for program in "${!package[@]}"; do
  command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
compgen -G '/usr/lib/*/kamailio/modules/tls.so' >/dev/null || missing+=(kamailio-tls-modules)
((${#missing[@]})) || exit 0

if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
  echo "missing for tests on real SIP servers: ${missing[*]}" >&2
  echo "install them, for example: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# their services must not start: the tests run servers of their own
if [[ ! -e /usr/sbin/policy-rc.d ]]; then
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${missing[@]}"
