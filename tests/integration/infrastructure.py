# SPDX-License-Identifier: Apache-2.0
"""nginx and HAProxy, as Debian has them, between the agent and two clouds of one cluster.

    async with Nginx(directory, pair, cloud_ports) as proxy:    # ends TLS, at proxy.url
        await proxy.reload()

Each has its configuration, its log and all else that it writes in the test's directory. The
configurations are those that the README advises, but for the short times.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tls
from harness import free_port, until
from private_bus import die_with

TCP_LISTEN = "0A"       # in /proc/net/tcp

# HTTP/2 is on, as it mostly is for the sake of browsers: the agent has to ask for HTTP/1.1.
NGINX = """\
daemon off;
user root;
worker_processes 1;
pid {directory}/nginx.pid;
{deadline}
events {{ worker_connections 256; }}
http {{
	access_log off;
	client_body_temp_path {directory}/nginx-temp;
	proxy_temp_path {directory}/nginx-temp;
	fastcgi_temp_path {directory}/nginx-temp;
	uwsgi_temp_path {directory}/nginx-temp;
	scgi_temp_path {directory}/nginx-temp;
	upstream clouds {{
{servers}
	}}
	server {{
		listen 127.0.0.1:{port} ssl http2;
		ssl_certificate {pair.cert};
		ssl_certificate_key {pair.key};
		location / {{
			proxy_pass http://clouds;
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_set_header Host $http_host;
			proxy_read_timeout {idle_s}s;
			proxy_send_timeout {idle_s}s;
		}}
	}}
}}
"""

HAPROXY = """\
global
	nbthread 1
	log stdout format raw daemon notice
	{deadline}
defaults
	mode http
	log global
	timeout connect 5s
	timeout client 20s
	timeout server 20s
	timeout tunnel {idle_s}s
	retries 3
	option redispatch 1
frontend hubs
	bind 127.0.0.1:{port} ssl crt {directory}/haproxy.pem alpn h2,http/1.1
	default_backend clouds
backend clouds
	balance roundrobin
{servers}
"""


class Proxy:
    """A process that listens with TLS and leads to the clouds at these ports, in turn.

    idle_s: how long a connection may be silent. deadline_s: how long after a reload its old
    connections may go on, None for ever.
    """

    command: Sequence[str]          # what it is started with, before its configuration's path
    reload_signal: signal.Signals
    unavailable: int                # what it answers while no cloud is up

    def __init__(self, directory: Path, pair: tls.Pair, cloud_ports: Sequence[int],
                 idle_s: int = 60, deadline_s: int | None = None) -> None:
        self.name = type(self).__name__
        self.port = free_port()
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"wss://{self.authority}/"
        self.directory, self.pair, self.cloud_ports = directory, pair, cloud_ports
        self.ca = directory / "ca.pem"
        self.idle_s, self.deadline_s = idle_s, deadline_s
        self.log_path = directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes]

    async def __aenter__(self) -> Proxy:
        config = self.directory / f"{self.name}.conf"
        config.write_text(self.render())
        program, *options = self.command
        path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
        assert path, f"{program} is not installed: packaging/install-deps test"
        with open(self.log_path, "wb") as log:
            # SIGTERM: it takes its workers along.
            self._process = subprocess.Popen(
                [path, *options, config], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.directory, preexec_fn=die_with(os.getpid(), signal.SIGTERM))
        try:
            await until(self._answers, 15, f"{self.name} to listen")
        except BaseException as err:
            await self.__aexit__(None, err, None)
            raise
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._process.terminate()
        try:
            await until(lambda: self._process.poll() is not None, 15, f"{self.name} to end")
        finally:
            self._process.kill()
            self._process.wait()
            if error:
                error.add_note(f"{self.name} logs:\n{self.log_path.read_text()[-4000:]}")

    def workers(self) -> set[int]:
        """The processes that have connections; those of before a reload too, while they have."""
        pid = self._process.pid
        return {int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    async def reload(self) -> set[int]:
        """Have it read its configuration again, and return the workers of before.

        From then on those take no more connections.
        """
        before = self.workers()
        self._process.send_signal(self.reload_signal)

        def taken_over() -> bool:
            listening = self._listening()
            return bool(listening) and not listening & before
        await until(taken_over, 15, f"{self.name} to reload")
        return before

    def _listening(self) -> set[int]:
        """The workers that have a socket which listens at its port, one that may be shared."""
        sockets = {f"socket:[{fields[9]}]"
                   for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines())
                   if fields[1].endswith(f":{self.port:04X}") and fields[3] == TCP_LISTEN}

        def listens(pid: int) -> bool:
            with suppress(OSError):     # it has ended, or has closed one meanwhile
                return any(os.readlink(fd) in sockets for fd in Path(f"/proc/{pid}/fd").iterdir())
            return False
        return {pid for pid in self.workers() if listens(pid)}

    async def ask(self) -> int:
        """The status that somebody else gets, who is no hub and takes a turn from them."""
        trusting = ssl.create_default_context(cafile=self.ca)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=trusting)
        writer.write(f"GET / HTTP/1.1\r\nHost: {self.authority}\r\n\r\n".encode())
        async with asyncio.timeout(15):
            status = await reader.readline()
        writer.close()
        return int(status.split()[1])

    async def leads_to(self, port: int) -> None:
        """Wait until it would use this cloud, which listens again."""

    def render(self) -> str:
        """Its configuration."""
        raise NotImplementedError

    async def _answers(self) -> bool:
        assert self._process.poll() is None, f"{self.name} has ended"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def _render(self, template: str, **values: Any) -> str:
        return template.format(directory=self.directory, port=self.port, pair=self.pair,
                               idle_s=self.idle_s, **values)


class Nginx(Proxy):
    """Tries the other cloud where one refuses, and holds that against neither."""

    reload_signal = signal.SIGHUP
    unavailable = 502

    @property
    def command(self) -> Sequence[str]:     # type: ignore[override]
        # Until it has read that, it would log to, and look for files in, the system's folders.
        return ["nginx", "-e", "stderr", "-p", str(self.directory), "-c"]

    def render(self) -> str:
        return self._render(
            NGINX,
            deadline=f"worker_shutdown_timeout {self.deadline_s}s;" if self.deadline_s else "",
            servers="\n".join(f"\t\tserver 127.0.0.1:{p} max_fails=0;" for p in self.cloud_ports))


class Haproxy(Proxy):
    """As master and worker, in the foreground. Probes the clouds."""

    command = ("haproxy", "-W", "-f")
    reload_signal = signal.SIGUSR2
    unavailable = 503

    def render(self) -> str:
        # It wants both in one file.
        (self.directory / "haproxy.pem").write_text(
            self.pair.cert.read_text() + self.pair.key.read_text())
        return self._render(
            HAPROXY, deadline=f"hard-stop-after {self.deadline_s}s" if self.deadline_s else "",
            servers="\n".join(f"\tserver at-{p} 127.0.0.1:{p} check inter 200ms"
                              for p in self.cloud_ports))

    async def leads_to(self, port: int) -> None:
        def state() -> str:
            told = [line for line in self.log_path.read_text().splitlines()
                    if f"Server clouds/at-{port} is " in line]
            return told[-1] if told else ""
        await until(lambda: " is DOWN" not in state(), 15, f"{self.name} to find {port} up")
