#!/bin/sh
# The supervisor is started by the first mount. After an upgrade the new one takes the tunnels over, which go on.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	systemctl try-restart nfseal-tunnels.service || true
fi
