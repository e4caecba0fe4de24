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
# chrony takes the place of any other time service (each is a `time-daemon`), so it is installed only where there is none
time_services() { dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Provides}\n' 2>/dev/null | grep -w '^ii.*time-daemon'; }
if ! command -v chronyd >/dev/null; then
  if services=$(time_services); then
    echo "chrony is not installed beside this host's own time service (${services:4}): its tests are skipped" >&2
  else
    missing+=(chrony)
  fi
fi
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
