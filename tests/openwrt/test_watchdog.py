# SPDX-License-Identifier: Apache-2.0
"""The watchdog in a jail of procd, where the daemon is the first process of a PID namespace."""

import os
import signal
import subprocess
from pathlib import Path

from hub import BECOME_ROOT, PROGRAMS


def test_first_process(tmp_path):
    """It ends there too, though no signal that is not handled ends such a process."""
    conf = tmp_path / "hub.conf"
    conf.write_text(f'state_dir = "{tmp_path}";\nstatus_socket = "{tmp_path}/sock/s";\n')
    with subprocess.Popen(
            ["unshare", "-mpf", "--kill-child", *BECOME_ROOT, PROGRAMS / "blecon-hotspotd",
             "--foreground", "--watchdog", "10", "--config", conf],
            stderr=subprocess.PIPE, text=True) as process:
        try:
            assert any("started, version" in line for line in process.stderr)
            # From outside: what does not handle it would not even notice.
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            os.kill(int(children), signal.SIGALRM)
            assert process.wait(20) == 128 + signal.SIGALRM
        finally:
            process.kill()
