#!/bin/sh
# Install QGIS and what the tests need of the system, on Debian and its relatives, if missing.
set -eu

missing=""
for package in qgis python3-qgis qgis-providers python3-venv python3-requests python3-pytest xvfb xauth zip; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q "ok installed" ||
        missing="$missing $package"
done
[ -z "$missing" ] && exit 0

echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
# Fonts, or maps have boxes for letters.
# shellcheck disable=SC2086
apt-get install --quiet=2 --yes --no-install-recommends $missing fonts-dejavu-core libgl1-mesa-dri \
    >/tmp/mmearth-apt.log 2>&1 || { tail -20 /tmp/mmearth-apt.log; exit 1; }
