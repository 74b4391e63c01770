"""Programs that do everything but solve their task, which is f(x) = x + 1."""

FORGED = '{"passed": true, "reason": ""}'

FAILING = {
    "fork bomb": """
import os
def f(x):
    while True:
        try:
            os.fork()
        except OSError:
            pass
""",
    "endless loop": """
while True:
    pass
""",
    "endless loop without its signal": """
import signal
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while True:
    pass
""",
    "10 GB": """
def f(x):
    return len(bytearray(10 * 2**30))
""",
    "files without end": """
def f(x):
    for i in range(9999):
        open(f"{i}", "wb").write(bytes(2**23))
""",
    "os._exit(0)": """
import os
os._exit(0)
""",
    "os._exit(0) when called": """
import os
def f(x):
    os._exit(0)
""",
    "sys.exit(0)": """
import sys
sys.exit(0)
""",
    "sys.exit(0) when called": """
import sys
def f(x):
    sys.exit(0)
""",
    "forged result line": f"""
import os
print({FORGED!r})
for i in range(64):
    try:
        os.write(i, {FORGED!r}.encode() + b"\\n")
    except OSError:
        pass
os._exit(0)
""",
    "forged frame": """
import os
for i in range(64):
    try:
        os.write(i, b"\\0\\0\\0\\2{}")
    except OSError:
        pass
def f(x):
    return 0
""",
    "sys.modules": """
import sys
for module in [*sys.modules.values()]:
    for name in ("run_tests", "judged", "_done", "encoded"):
        if hasattr(module, name):
            setattr(module, name, lambda *_: None)
sys.modules.clear()
""",
    "builtins": """
import builtins
builtins.AssertionError = KeyError
builtins.abs = builtins.len = builtins.all = lambda *_: True
def f(x):
    return 0
""",
    "atexit": f"""
import atexit, os
atexit.register(os._exit, 0)
atexit.register(print, {FORGED!r})
def f(x):
    return 0
""",
    "always equal": """
class Equal:
    def __eq__(self, other):
        return True
    __hash__ = None
def f(x):
    return Equal()
""",
    "objects of others": """
import gc, sys
frame = sys._getframe()
while frame:
    for one in [frame.f_locals, frame.f_globals, *gc.get_objects()]:
        if isinstance(one, dict) and "passed" in one:
            one["passed"] = True
    frame = frame.f_back
def f(x):
    return 0
""",
    "sleeping": """
import time
def f(x):
    time.sleep(1000)
""",
    "closed descriptors": """
import os
os.closerange(0, 4096)
def f(x):
    return x + 1
""",
    "huge output": """
def f(x):
    while True:
        print("x" * 2**20)
""",
    "huge answer": """
def f(x):
    return "x" * 2**26
""",
    "deep answer": """
def f(x):
    found = []
    for _ in range(10**5):
        found = [found]
    return found
""",
    "killing": """
import os
for pid in (1, os.getppid(), -1):
    for number in (2, 9, 15):
        try:
            os.kill(pid, number)
        except OSError:
            pass
def f(x):
    return 0
""",
    "no Python": """
def f(x:
""",
    "odd exception": """
class Odd(BaseException):
    def __str__(self):
        raise self
def f(x):
    raise Odd
""",
}

# Right if and only if they get there; {names} are of a place outside
REACHING = {
    "write outside": """
def f(x):
    with open({file!r}, "w") as file:
        file.write("here")
    return x + 1
""",
    "symlink": """
import os
def f(x):
    if not os.path.islink("link"):
        os.symlink({folder!r}, "link")
    with open("link/written", "w") as file:
        file.write("here")
    return x + 1
""",
    "read outside": """
def f(x):
    return x + len(open({kept!r}).read())
""",
    "socket": """
import socket
def f(x):
    socket.socket().connect(("127.0.0.1", {port}))
    return x + 1
""",
}

# These get there in no namespace either, without rights
REFUSED = {
    "folders of the system": """
def f(x):
    open("/usr/written", "w")
    return x + 1
""",
    "memory of the tests": """
import ctypes, os
libc = ctypes.CDLL(None)
def f(x):
    return x + 1 + libc.ptrace(16, os.getppid(), 0, 0)
""",
}

BACKGROUND = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
def f(x):
    return x + 1
"""

THREADS = """
import threading
def f(n):
    ours = [threading.Thread(target=threading.Event().wait, args=(1,)) for _ in range(n)]
    for one in ours:
        one.start()
    return n
"""
