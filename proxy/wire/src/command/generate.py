#!/usr/bin/env python3
"""Writes table.tsv and access.tsv from the COMMAND answers of running servers.

Usage: generate.py [--check] HOST:PORT...

The first server's wording wins where servers agree; where they differ the table takes the
wider arity and the union of the flags, because the backend checks again. Every command must
have a line in classes.tsv, and every line there a command; otherwise nothing is written.
With --check the files are only compared. What users may be allowed by, access.tsv, is as the
first server has it that knows the command.
"""

import pathlib
import socket
import sys

HERE = pathlib.Path(__file__).parent
COLUMNS = ["name", "arity", "flags", "first", "last", "step", "movable", "servers", "since"]


class Server:
    """One RESP2 connection; replies become str, int, None and list."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.file = socket.create_connection((host, int(port))).makefile("rwb")

    def ask(self, *args):
        out = [b"*%d\r\n" % len(args)]
        for arg in args:
            out.append(b"$%d\r\n%s\r\n" % (len(arg.encode()), arg.encode()))
        self.file.write(b"".join(out))
        self.file.flush()
        return self.read()

    def read(self):
        line = self.file.readline()[:-2].decode()
        kind, rest = line[0], line[1:]
        if kind == "+":
            return rest
        if kind == ":":
            return int(rest)
        if kind == "$":
            return None if rest == "-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == "*":
            return [self.read() for _ in range(max(int(rest), 0))]
        raise SystemExit(f"the server answered: {line}")


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


def name_and_version(server):
    info = dict(line.split(":", 1) for line in server.ask("INFO", "server").splitlines() if ":" in line)
    for name in ("valkey", "redis"):
        if f"{name}_version" in info:
            return name, info[f"{name}_version"]
    raise SystemExit("INFO names no version")


def movable(name, specs):
    """What first, last and step cannot say, or '-'. Fails on a shape that keys.rs does not know."""
    notes = []
    for spec in map(pairs, specs):
        begin, find = pairs(spec["begin_search"]), pairs(spec["find_keys"])
        at, how = pairs(begin["spec"]), pairs(find["spec"])
        if find["type"] == "keynum":
            assert how["keynumidx"] == 0 and how["firstkey"] == 1, name
            notes.append(f"numkeys({at['index']},{how['keystep']})")
        elif begin["type"] == "keyword":
            word = {"STREAMS": "streams", "STORE": "geostore", "STOREDIST": None, "KEYS": "migrate"}[at["keyword"]]
            if word:
                notes.append(f"{word}({at['startfrom']})")
        elif begin["type"] == "unknown":
            notes.append("patterns" if "RO" in spec["flags"] else "sortstore")
        else:
            assert (begin["type"], find["type"]) == ("index", "range"), name
    return ",".join(notes) or "-"


def touched(flags):
    """What a command does with a key: r, w, rw, or + for neither; v if that depends on its arguments."""
    if "not_key" in flags:
        return "x"
    if "variable_flags" in flags and "RO" not in flags and "OW" not in flags:
        return "v"
    return ("r" if "access" in flags else "") + ("w" if flags & {"insert", "delete", "update"} else "") or "+"


def touches(specs):
    """What is done with the keys from which argument on, as 1:r,2:w; of keys found by a word, from where it may stand."""
    notes = []
    for spec in map(pairs, specs):
        at = pairs(pairs(spec["begin_search"])["spec"])
        flags = {flag if flag.isupper() and len(flag) == 2 else flag.lower() for flag in spec["flags"]}
        # What BY and GET of SORT name is no key that could be looked at.
        begin = at.get("index", at.get("startfrom", 2))
        if begin > 0 and not ("incomplete" in flags and "RO" in flags):
            notes.append(f"{begin}:{touched(flags)}")
    return ",".join(dict.fromkeys(notes)) or "-"


def rows(server):
    """name -> row of one server, sub-commands included as container|name."""
    label, version = name_and_version(server)
    since = {}
    for name, doc in pairs(server.ask("COMMAND", "DOCS")).items():
        doc = pairs(doc)
        since[name] = doc["since"]
        since.update((sub, pairs(d)["since"]) for sub, d in pairs(doc.get("subcommands", [])).items())
    found = {}
    pending = list(server.ask("COMMAND"))
    while pending:
        name, arity, flags, first, last, step, categories, _, specs, subs = pending.pop()
        pending.extend(subs)
        found[name] = {
            "name": name, "arity": arity, "flags": set(flags) - {"skip_slowlog", "skip_commandlog"},
            "first": first, "last": last, "step": step, "movable": movable(name, specs),
            "categories": ",".join(sorted(c.removeprefix("@") for c in categories)) or "-",
            "touches": touches(specs), "servers": [label], "since": f"{label} {since.get(name, '-')}",
        }
    return f"{label} {version}", found


def wider(a, b):
    return a if a == b else -min(abs(a), abs(b))


def merge(mine, other):
    for name, row in other.items():
        if name not in mine:
            mine[name] = row
            continue
        known = mine[name]
        for column in ("first", "last", "step", "movable"):
            assert known[column] == row[column], f"{name}: the servers disagree on {column}"
        known["arity"] = wider(known["arity"], row["arity"])
        known["flags"] |= row["flags"]
        known["servers"] += row["servers"]


def text(row):
    shown = dict(row, flags=",".join(sorted(row["flags"])) or "-", servers=",".join(sorted(row["servers"])))
    return "\t".join(str(shown[column]) for column in COLUMNS)


def check_classes(names):
    lines = (HERE / "classes.tsv").read_text().splitlines()
    classed = [line.split("\t")[0] for line in lines if line and not line.startswith("#")]
    problems = [f"{name}: no line in classes.tsv" for name in names if name not in classed]
    problems += [f"{name}: in classes.tsv, but no server has it" for name in classed if name not in names]
    problems += [f"{name}: twice in classes.tsv" for name in set(classed) if classed.count(name) > 1]
    if problems:
        raise SystemExit("\n".join(sorted(problems)))


def main(args):
    check = "--check" in args
    addresses = [arg for arg in args if arg != "--check"]
    if not addresses:
        raise SystemExit(__doc__)
    versions, table = [], {}
    for address in addresses:
        version, found = rows(Server(address))
        versions.append(version)
        merge(table, found)
    check_classes(table.keys())
    head = f"# Written by generate.py from {' and '.join(versions)}; our part is in classes.tsv.\n"
    body = head + "# " + "\t".join(COLUMNS) + "\n" + "".join(text(table[n]) + "\n" for n in sorted(table))
    access = head.split(";")[0] + "; read by access.rs.\n# name\tcategories\ttouches\n"
    access += "".join("\t".join((n, table[n]["categories"], table[n]["touches"])) + "\n" for n in sorted(table))
    for name, content in (("table.tsv", body), ("access.tsv", access)):
        file = HERE / name
        if not check:
            file.write_text(content)
        elif file.read_text() != content:
            raise SystemExit(f"{name} is not what these servers say: run generate.py without --check")


if __name__ == "__main__":
    main(sys.argv[1:])
