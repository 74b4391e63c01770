"""The two processes of a judged program: its tests ask, its solution answers.

No line of the solution runs where the verdict is made. Its process is forked before the tests are read, so it cannot
see what they want. What it answers is taken as plain values; any other object stays there and is a `Remote` here.
"""

from __future__ import annotations

import builtins
import json
import os
import re
import signal
import socket
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from ablate.code_tasks.namespaces import limit_time
from ablate.code_tasks.wire import decoded, encoded, receive, send

LONGEST = 200  # characters of a reason
Ask = Callable[..., Any]


class SolutionError(Exception):
    """What the solution raised, where it is no exception that Python comes with, or ends a process."""


class SolutionEndedError(BaseException):
    """The solution's process is no more. No Exception, so that no test takes it for one that it waits for."""


class Remote:
    """An object in the solution's process: it is called, and its attributes are read and set, over there."""

    __slots__ = ("_ask", "_number")

    def __init__(self, ask: Ask, number: int):
        object.__setattr__(self, "_ask", ask)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._ask("call", self, list(args), named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # equality and the like are decided here
            raise AttributeError(name)
        return self._ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", self, name, value)


class Caller:
    """The tests' side of the solution."""

    def __init__(self, descriptor: int, most: int):
        self.descriptor, self.most = descriptor, most

    def ask(self, *request: Any) -> Any:
        """Raises what the solution raised; SolutionEndedError where it has ended, ValueError where it answers
        nonsense."""
        content = encoded(list(request), _number_of_remote)
        try:
            send(self.descriptor, content)
            answer = receive(self.descriptor, self.most)
        except (EOFError, OSError):
            raise SolutionEndedError from None
        kind, *parts = answer
        if kind == "value":
            return decoded(parts[0], lambda number: Remote(self.ask, int(number)))
        raise _exception(*map(str, parts))


def _number_of_remote(value: Any) -> int:
    if isinstance(value, Remote):
        return object.__getattribute__(value, "_number")
    raise TypeError(f"the tests pass a value of {type(value)}, wanted plain values")


def _exception(name: str, text: str) -> Exception:
    kind = getattr(builtins, name, None)
    try:
        if isinstance(kind, type) and issubclass(kind, Exception):
            return kind(text)
    except TypeError:  # one that wants more words
        pass
    return SolutionError(f"{name}: {text}")


def run_tests(program: dict[str, str], caller: Caller) -> None:
    """Raises whatever the tests raise. They know those names of the solution that they mention, and none of Python's is
    replaced by it. `helpers` are code of the benchmark that the tests lean on, beside the solution."""
    module, theirs = caller.ask("load", program["solution"])
    names: dict[str, Any] = {"__name__": "tests"}
    exec(program["helpers"], names)  # nosec B102 - of the benchmark, in the sandbox
    names.pop(program["entry_point"], None)  # of a prompt, without its body
    mentioned = {*re.findall(r"\w+", program["tests"])} - {*names, *dir(builtins)}
    names |= {name: caller.ask("get", module, name) for name in mentioned.intersection(theirs)}
    exec(program["tests"], names)  # nosec B102 - likewise


def serve(descriptor: int) -> None:
    """The solution's side, until the tests have ended."""
    objects: list[Any] = []

    def number_of(value: Any) -> int:
        objects.append(value)
        return len(objects) - 1

    while True:
        try:
            request = decoded(receive(descriptor, sys.maxsize), objects.__getitem__)
        except EOFError:
            return
        try:
            answer = ["value", encoded(_done(*request), number_of)]
        except BaseException as error:  # also what would end this process
            answer = ["error", type(error).__name__, str(error)[:LONGEST]]
        send(descriptor, answer)


def _done(what: str, target: Any, *rest: Any) -> Any:
    if what == "load":
        module = types.ModuleType("solution")
        sys.modules["solution"] = module  # dataclasses look there
        exec(compile(target, "solution.py", "exec"), module.__dict__)  # nosec B102 - this is what the sandbox is for
        return module, [*module.__dict__]
    if what == "call":
        return target(*rest[0], **rest[1])
    return getattr(target, rest[0]) if what == "get" else setattr(target, rest[0], rest[1])


def judged(source: int, verdict: int, limits: Mapping[str, int], packages: list[str]) -> None:
    """Forks the solution's process, reads the program and writes a verdict of one line: passed, and the reason if not.
    source, verdict: descriptors. packages: folders that tests alone import from."""
    ours, theirs = socket.socketpair()
    solution = os.fork()
    if solution == 0:
        try:
            limit_time(limits["seconds"])
            _only(theirs.fileno())
            serve(theirs.fileno())
        finally:
            os._exit(0)
    theirs.close()
    limit_time(limits["wall_seconds"])
    sys.path += packages
    with open(source, "rb") as file:
        program = json.loads(file.read())
    _only(ours.fileno(), verdict)
    reason = ""
    try:
        run_tests(program, Caller(ours.fileno(), limits["output"]))
    except SolutionEndedError:
        reason = _end_of(solution)
    except BaseException as error:  # a test may raise anything
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    os.write(verdict, json.dumps({"passed": not reason, "reason": reason[:LONGEST]}).encode() + b"\n")


def _only(*kept: int) -> None:
    """Closes all descriptors but these; what is read is empty, and what is printed goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    first = 3
    for number in sorted(kept):
        os.closerange(first, number)
        first = number + 1
    os.closerange(first, 4096)


def _end_of(process: int) -> str:
    """Why the solution's process has ended."""
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        limit = " (its limit of CPU time)" if number == signal.SIGXCPU else ""
        return f"the solution was ended by {signal.Signals(number).name}{limit}"
    return f"the solution ended itself with code {os.WEXITSTATUS(status)}, before its tests had"
