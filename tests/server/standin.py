import socket, subprocess, time, contextlib
from tests.server.wire import Wire

class Process:
    pass

@contextlib.contextmanager
def start_redis(directory, config=None, options=(), password=None):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    p = Process()
    p.host, p.port, p.address = "127.0.0.1", port, ("127.0.0.1", port)
    p.directory, p.is_redis = directory, True
    p.unix_socket = str(directory / "socket")
    p.process = subprocess.Popen(["/usr/bin/redis-server", *([str(config)] if config else ["--dir", str(directory), "--save", ""]), "--port", str(port), "--unixsocket", p.unix_socket, "--enable-debug-command", "yes", *options], stdout=subprocess.DEVNULL)
    for _ in range(500):
        try:
            Wire(p.address).close(); break
        except OSError:
            time.sleep(0.01)
    try:
        yield p
    finally:
        p.process.kill(); p.process.wait()
