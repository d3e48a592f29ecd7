#!/usr/bin/env python3
"""Checks table.json against the real Jinja2: `check.py` compares, `check.py --write` records anew.

The table is a list of [template, output]; null as output: Jinja2 refuses the template. The context is in context.json.
Needs the package jinja2 (3.1).
"""

import copy
import json
import pathlib
import re
import sys

import jinja2

HERE = pathlib.Path(__file__).parent
TABLE = HERE / "table.json"


def render(template: str, context: dict):
    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined, extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])
    try:
        text = environment.from_string(template).render(copy.deepcopy(context))
    except Exception:  # whatever Jinja2 or Python says: there is no output
        return None
    # An address of the interpreter is no output that anybody can want.
    return None if re.search(r" at 0x[0-9a-f]+>", text) else text


def main() -> int:
    context = json.loads((HERE / "context.json").read_text())
    rows = json.loads(TABLE.read_text())
    wrong = 0
    for row in rows:
        now = render(row[0], context)
        if now != row[1]:
            wrong += 1
            print(f"{row[0]!r}: recorded {row[1]!r}, Jinja2 says {now!r}")
            row[1] = now
    if "--write" in sys.argv:
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        TABLE.write_text(f"[\n{lines}\n]\n")
        return 0
    print(f"{len(rows)} templates, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
