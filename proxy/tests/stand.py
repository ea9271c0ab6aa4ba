"""Three servers and a proxy in front of them, for programs that are run against it."""

import socket
import subprocess
import sys
import time


def free_ports(count):
    """Ports that nobody has now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def answers(port, proc, line=b"PING\r\n", limit=30):
    """Waits until something at this port answers without an error."""
    end = time.monotonic() + limit
    while time.monotonic() < end and proc.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as stream:
                stream.sendall(line)
                if stream.recv(16).startswith((b"+", b":")):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"nobody answers at port {port}")


class Bare:
    """One server with nothing in front."""

    def __init__(self, folder):
        folder.mkdir(parents=True)
        [self.port] = free_ports(1)
        self.running = []
        self.serve(folder, self.port)

    def serve(self, folder, port):
        data = folder / str(port)
        data.mkdir()
        args = ["redis-server", "--port", str(port), "--dir", str(data), "--save", "", "--bind", "127.0.0.1"]
        self.start(args, folder, f"server-{port}")
        answers(port, self.running[-1])

    def start(self, args, folder, name):
        with open(folder / f"{name}.log", "wb") as log:
            self.running.append(subprocess.Popen(args, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def stop(self):
        for process in self.running:
            process.kill()
            process.wait()


class Stand(Bare):
    """Three servers and a proxy in front of them."""

    def __init__(self, folder, quorate):
        folder.mkdir(parents=True)
        self.port, *self.backends = free_ports(4)
        self.running = []
        for backend in self.backends:
            self.serve(folder, backend)
        config = [f'[listen.main]\naddress = "127.0.0.1:{self.port}"\ngroup = "g"']
        config += [f'[backend.r{at}]\nurl = "redis://127.0.0.1:{port}"' for at, port in enumerate(self.backends)]
        config += [f'[group.g]\nreplicas = {[f"r{at}" for at in range(3)]}\n[state]\ndir = "state"']
        config += [f'[admin]\naddress = "127.0.0.1:{free_ports(1)[0]}"\n']
        (folder / "quorate.toml").write_text("\n".join(config).replace("'", '"'))
        self.start([quorate, "run", "-c", "quorate.toml"], folder, "quorate")
        answers(self.port, self.running[-1], b"DEL nothing\r\n")
