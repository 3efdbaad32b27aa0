"""Call a learner's function and tell in plain data what came of it.

`check` imports this module. `sandbox` starts it by its path, as a process that knows
neither oracles nor the rest of the course: `main` finds the function in a notebook's
code, runs what the function needs and nothing else, and calls it on each input.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import collections
import contextlib
import io
import json
import os
import re
import symtable
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

# --------------------------------------------------------------------------- plain data

LARGEST_RESULT = 2**24
TOO_LARGE = "result larger than 16 MB"
DICTS = (dict, collections.Counter, collections.defaultdict, collections.OrderedDict)


class Odd(Exception):
    """A value that is not plain data; the message names its type."""


def plain(value: Any) -> Any:
    """Give a result as JSON: lists for sequences and arrays, marked dicts and sets.

    Types are compared exactly: a subclass may say that it equals everything.

    Raises:
        Odd: there is something in it that is no plain data.
    """
    kind = type(value)
    # Refused before it is written out, which takes a learner's seconds and memory.
    if kind in (str, list, tuple) and len(value) > LARGEST_RESULT:
        raise Odd(TOO_LARGE)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (list, tuple):
        return [plain(item) for item in value]
    if kind in DICTS:
        return {"dict": [[plain(key), plain(item)] for key, item in value.items()]}
    if kind in (set, frozenset):
        return {"set": [plain(item) for item in value]}
    if _is_array(kind):
        items = value.tolist()
        if type(items) is not kind:
            return plain(items)
    raise Odd(kind.__name__)


def _is_array(kind: type) -> bool:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy and (kind is numpy.ndarray or issubclass(kind, numpy.generic)):
        return kind.__module__ == "numpy"
    return bool(torch) and kind in (torch.Tensor, torch.nn.Parameter)


def pack(value: Any) -> Any:
    """Give an input as JSON from which `unpack` makes the same value again.

    Raises:
        Odd: there is something in it that is no plain data.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [pack(item) for item in value]
    if kind in (tuple, set):
        return {kind.__name__: [pack(item) for item in value]}
    if kind is dict:
        return {"dict": [[pack(key), pack(item)] for key, item in value.items()]}
    if _is_array(kind) and kind.__module__ == "numpy":
        return {
            "array": value.tolist(),
            "dtype": str(value.dtype),
            "shape": value.shape,
        }
    raise Odd(kind.__name__)


def unpack(data: Any) -> Any:
    """Make the value that `pack` gave as JSON."""
    if isinstance(data, list):
        return [unpack(item) for item in data]
    if not isinstance(data, dict):
        return data
    if "tuple" in data:
        return tuple(unpack(item) for item in data["tuple"])
    if "set" in data:
        return {unpack(item) for item in data["set"]}
    if "dict" in data:
        return {unpack(key): unpack(item) for key, item in data["dict"]}
    import numpy

    array = numpy.array(data["array"], dtype=data["dtype"])
    array = array.reshape(data["shape"])
    return array if data["shape"] else array[()]


# --------------------------------------------------------------------------------- call


def call(function: Callable, arguments: Any) -> dict[str, Any]:
    """Call a function on a copy of packed arguments and tell what came of it.

    The result has "value" (plain data), or "odd" (the type that is none), or "error"
    (names of the exception's class and its bases) with "text"; and "changed", where
    the function left its arguments other than they were.
    """
    copies = unpack(arguments)
    try:
        text = json.dumps({"value": plain(function(*copies))})
        if len(text) > LARGEST_RESULT:
            raise Odd(TOO_LARGE)
        outcome = json.loads(text)
    except Odd as odd:
        outcome = {"odd": str(odd)}
    except (Exception, SystemExit) as error:
        outcome = describe(error)
    if _changed(arguments, copies):
        outcome["changed"] = True
    return outcome


def describe(error: BaseException) -> dict[str, Any]:
    """Name an exception's classes, most special first, and its text."""
    try:
        text = " ".join(str(error).split())[:200]
    except Exception:
        text = ""
    return {"error": [kind.__name__ for kind in type(error).__mro__], "text": text}


def _changed(arguments: Any, copies: Any) -> bool:
    try:
        # NaN is not equal to itself, but its text is.
        return json.dumps(pack(copies)) != json.dumps(arguments)
    except (Odd, ValueError, RecursionError):
        return True


# --------------------------------------------------------- what a function needs to run


class Missing(Exception):
    """The notebook does not define the function; one sentence says why."""


class Statement(NamedTuple):
    """A top-level statement, the number of its cell, and names."""

    cell: int
    node: ast.stmt
    binds: set[str]
    changes: set[str]
    uses: set[str]


def needed(cells: Sequence[str], name: str) -> tuple[list[ast.stmt], str]:
    """Give the statements that the function `name` needs, and its own source.

    These are its definition, every top-level statement that binds a name to which it
    refers, directly or through others, and those of its own cell that use such a name.
    Where a name is bound before the function or in its cell, what comes later does not
    count, as when the notebook runs from top to bottom. Calls that only try the
    function out, check cells and the lesson's training are left out.

    Raises:
        Missing: no cell defines the function, or the cell that does is no Python.
    """
    statements, broken = _statements(cells)
    definitions = [i for i, s in enumerate(statements) if name in s.binds]
    if not definitions:
        reasons = [text for cell, text in broken if name in cells[cell]]
        nowhere = f"no cell of the notebook defines {name}"
        raise Missing(reasons[-1] if reasons else nowhere)
    # A stub left in place does not hide what was written in another cell.
    written = [i for i in definitions if not _is_stub(statements[i].node)]
    target = (written or definitions)[-1]
    chosen = _follow(statements, target, name)
    nodes = [statements[i].node for i in sorted(chosen)]
    return nodes, ast.unparse(statements[target].node)


def _follow(statements: Sequence[Statement], target: int, name: str) -> set[int]:
    """Give the places of `target`, of all that it refers to, and so on."""
    binders = collections.defaultdict(list)
    for i, statement in enumerate(statements):
        for word in statement.binds | statement.changes:
            binders[word].append(i)
    last = statements[target]
    binders[name] = [
        i
        for i in binders[name]
        # `align = cached(align)` needs what stands before it.
        if (statements[i].cell == last.cell or (i < target and name in last.uses))
        and (i == target or not _is_stub(statements[i].node))
    ]
    chosen, seen, todo = {target}, set(), {name}
    while todo:
        word = todo.pop()
        seen.add(word)
        # A star import may bind anything.
        places = binders[word] or ([] if hasattr(builtins, word) else binders["*"])
        for i in [i for i in places if statements[i].cell <= last.cell] or places:
            chosen.add(i)
            todo |= statements[i].uses - seen
    # `memo.update(…)` beside the function; what else it refers to is not followed.
    helpers = {word for word in seen if binders[word]} - {name}
    for i, statement in enumerate(statements):
        # One that calls the function, and sets nothing that it needs, only tries it.
        tries = name in statement.uses
        tries &= not seen & (statement.binds | statement.changes)
        if statement.cell == last.cell and helpers & statement.uses and not tries:
            chosen.add(i)
    return chosen


def _statements(cells: Sequence[str]) -> tuple[list[Statement], list]:
    """Parse each cell: the statements of all, and `(cell, reason)` of the broken."""
    found, broken = [], []
    for number, source in enumerate(cells):
        try:
            body = _parsed(source).body
        except SyntaxError as error:
            broken.append((number, f"{error.msg} (line {error.lineno} of its cell)"))
        except (ValueError, RecursionError, MemoryError) as error:
            broken.append((number, f"its cell cannot be read: {error}"))
        else:
            found += [Statement(number, node, *_names(node)) for node in body]
    return found, broken


NO_PYTHON = re.compile(r"\s*(%{1,2}[a-zA-Z].*|!.*|\?{1,2}[\w.]+|[\w.]+\?{1,2})\s*")
"""A line for IPython or the shell: `%magic`, `!command`, `?name`, `name?`."""


def _parsed(source: str) -> ast.Module:
    """A cell's Python; lines for IPython or the shell count as blank."""
    lines = source.splitlines()
    if lines and lines[0].startswith("%%"):
        kept = lines[0].startswith(("%%time", "%%capture"))
        lines = ["", *lines[1:]] if kept else []
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:
        # Not before: in Python as it stands such a line is part of a text or a sum.
        kept = ("" if NO_PYTHON.fullmatch(line) else line for line in lines)
        return ast.parse("\n".join(kept))


def _names(node: ast.stmt) -> tuple[set[str], set[str], set[str]]:
    """The names that a top-level statement binds, changes and refers to."""
    try:
        table = symtable.symtable(ast.unparse(node), "cell", "exec")
    except SyntaxError:  # a lone `return`, say
        return set(), set(), set()
    symbols = table.get_symbols()
    binds = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
    uses = {s.get_name() for s in symbols if s.is_referenced()}
    for scope in _scopes(table):
        uses |= {s.get_name() for s in scope.get_symbols() if s.is_global()}
    changes = set()
    for part in ast.walk(node):
        # `table["x"] = 1` and `align.cache = {}` change what a name stands for.
        if isinstance(part, ast.Subscript | ast.Attribute):
            if isinstance(part.ctx, ast.Store) and isinstance(part.value, ast.Name):
                changes.add(part.value.id)
        elif isinstance(part, ast.ImportFrom) and part.names[0].name == "*":
            binds.add("*")
    return binds, changes, uses


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _scopes(child)


def _is_stub(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef):
        return False
    body = node.body[1:] if ast.get_docstring(node, clean=False) else node.body
    if len(body) != 1 or not isinstance(body[0], ast.Raise):
        return False
    raised = body[0].exc
    raised = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def execute(nodes: Sequence[ast.stmt], name: str, scope: dict[str, Any]) -> Callable:
    """Run statements one by one, whatever fails, and give the function `name`.

    Raises:
        Missing: after all that, there is no such function.
    """
    failure = ""
    tried = len(nodes) + 1
    while len(nodes) < tried:  # what came too early, in a notebook out of order
        tried, early = len(nodes), []
        for node in nodes:
            code = ast.Module([node], type_ignores=[])
            flags = __future__.annotations.compiler_flag
            try:
                exec(compile(code, "notebook", "exec", flags, True), scope)
            except NameError as error:
                early.append(node)
                failure = failure or f"line {node.lineno} of its cell: {error}"
            except BaseException as error:
                kind, text = type(error).__name__, describe(error)["text"]
                failure = failure or f"line {node.lineno} of its cell: {kind}: {text}"
        nodes = early
    function = scope.get(name)
    if not callable(function):
        why = f"{name} could not be defined: {failure}"
        raise Missing(why if failure else f"{name} is no function")
    return function


# -------------------------------------------------------------------- the child process

DENIED = {
    *("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system"),
    *("subprocess.Popen", "pty.spawn", "os.kill", "os.killpg", "os.startfile"),
    *("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"),
    *("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"),
    *("resource.setrlimit", "resource.prlimit", "sqlite3.connect", "os.chdir"),
}
"""Python's audit events that no exercise needs."""

CHANGES = {
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink"),
    *("os.truncate", "os.chmod", "os.chown", "os.utime", "os.setxattr"),
}
READS = {"open", "os.listdir", "os.scandir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def guard(hidden: Sequence[str], package: str) -> None:
    """Refuse from now on what only mischief needs; code in Python cannot undo it.

    Nothing under `hidden` can be read or `package` imported, nothing outside the
    present folder written, no process started or signalled, no network reached.
    """
    home = os.path.realpath(os.getcwd())
    null = os.path.realpath(os.devnull)

    def within(path: Any, folders: Sequence[str]) -> bool:
        path = os.path.realpath(os.fsdecode(path))
        return any(path == f or path.startswith(f + os.sep) for f in folders)

    def allowed(event: str, args: tuple) -> bool:
        if event in DENIED:
            return False
        if event == "import":
            return not f"{args[0]}.".startswith(f"{package}.")
        paths = [p for p in args[:2] if isinstance(p, str | bytes | os.PathLike)]
        if event in CHANGES:
            return all(within(path, [home]) for path in paths)
        if not isinstance(args[0], str | bytes | os.PathLike):
            return True  # a file that is open already
        if event == "open":
            mode, flags = args[1:]
            if flags & WRITING:
                return within(args[0], [home, null])
            if mode is None and os.path.isdir(args[0]):
                return False  # a folder's descriptor is a way around its path
        return not within(args[0], hidden)

    def hook(event: str, args: tuple) -> None:
        if event in watched and not allowed(event, args):
            raise PermissionError(f"an exercise may not do this ({event})")

    watched = DENIED | CHANGES | READS | {"import"}
    sys.addaudithook(hook)


def limit(cpu: int, memory: int) -> None:
    """Bound CPU seconds, bytes of memory and of each file; no core dump."""
    try:
        import resource
    except ImportError:  # not on Windows: there the clock alone ends a run
        return
    bounds = {"CPU": (cpu, cpu + 1), "AS": (memory, memory)}
    bounds |= {"CORE": (0, 0), "FSIZE": (2**26, 2**26)}
    for name, bound in bounds.items():
        with contextlib.suppress(ValueError, OSError):  # not every system has each
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), bound)


def main() -> None:
    """Read a job from standard input; write its outcomes, a line each, to the output.

    The first line has the function's "source", or says why it is "missing".
    """
    job = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    sys.stdin, sys.stdout = io.StringIO(), open(os.devnull, "w")  # noqa: SIM115
    sys.path[:] = job["path"]
    sys.dont_write_bytecode = True
    limit(job["cpu"], job["memory"])

    def tell(line: dict) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    try:
        nodes, source = needed(job["cells"], job["function"])
        guard(job["hidden"], job["package"])
        notebook = sys.modules["__main__"] = types.ModuleType("__main__")
        function = execute(nodes, job["function"], notebook.__dict__)
    except Missing as error:
        tell({"missing": str(error)})
        return
    tell({"source": source})
    for arguments in job["cases"]:
        tell(call(function, arguments))


if __name__ == "__main__":
    main()
    # Threads and exit handlers of the learner's code have no say any more.
    os._exit(0)
