#!/usr/bin/env python3
"""What an SNMP PDU holds, for snmpd's `pass_persist`: the tables of several models, written from their MIBs.

usage: agent.py STATE_FILE. The state (which model, its outlets, how it misbehaves) is shared with the test through that
file, under a lock; so relays keep their state while snmpd is restarted. Protocol: snmpd.conf(5), pass_persist.
"""
import fcntl
import json
import sys
import time

ENTERPRISES = "1.3.6.1.4.1."

# Of each model: columns as (OID of the column, what it holds), the index of outlet n, and the numbers of
# the states as shown and as told. Columns that the drivers do not use are there because the devices have them.
MODELS = {
    # PowerNet-MIB: sPDUOutletControlTable, and rPDU2OutletMeteredStatusTable with W and 0.1 kWh.
    "apc": {
        "columns": [
            (ENTERPRISES + "318.1.1.4.4.2.1.1", "index"),
            (ENTERPRISES + "318.1.1.4.4.2.1.2", "zero"),
            (ENTERPRISES + "318.1.1.4.4.2.1.3", "both"),
            (ENTERPRISES + "318.1.1.4.4.2.1.4", "label"),
            (ENTERPRISES + "318.1.1.26.9.4.3.1.7", "power"),
            (ENTERPRISES + "318.1.1.26.9.4.3.1.11", "energy"),
        ],
        "shown": {True: 1, False: 2},
        "told": {1: True, 2: False},
    },
    # CPS-MIB: ePDUOutletControlTable.
    "pdu41004": {
        "columns": [
            (ENTERPRISES + "3808.1.1.3.3.3.1.1.1", "index"),
            (ENTERPRISES + "3808.1.1.3.3.3.1.1.2", "label"),
            (ENTERPRISES + "3808.1.1.3.3.3.1.1.3", "zero"),
            (ENTERPRISES + "3808.1.1.3.3.3.1.1.4", "both"),
        ],
        "shown": {True: 1, False: 2},
        "told": {1: True, 2: False},
    },
    # CPS-MIB, ats branch: shown on 1, off 2; told on 2, off 3.
    "pdu15swhviec12atnet": {
        "columns": [
            (ENTERPRISES + "3808.1.1.5.6.3.1.1", "index"),
            (ENTERPRISES + "3808.1.1.5.6.3.1.2", "label"),
            (ENTERPRISES + "3808.1.1.5.6.3.1.3", "state"),
            (ENTERPRISES + "3808.1.1.5.6.5.1.1", "index"),
            (ENTERPRISES + "3808.1.1.5.6.5.1.3", "control"),
        ],
        "shown": {True: 1, False: 2},
        "told": {2: True, 3: False},
    },
    # RFC 3621, one group; ports 1 to 8 are interfaces of the same number.
    "poe": {
        "columns": [
            ("1.3.6.1.2.1.2.2.1.2", "interface"),
            ("1.3.6.1.2.1.31.1.1.1.18", "alias"),
            ("1.3.6.1.2.1.105.1.1.1.3", "both"),
            ("1.3.6.1.2.1.105.1.1.1.6", "detection"),
            ("1.3.6.1.2.1.105.1.1.1.9", "label"),
        ],
        "group": "1.",
        "shown": {True: 1, False: 2},
        "told": {1: True, 2: False},
    },
    # TPLINK-POWER-OVER-ETHERNET-MIB; port n is interface 49152 + n.
    "tplink": {
        "columns": [
            ("1.3.6.1.2.1.2.2.1.2", "interface"),
            ("1.3.6.1.2.1.31.1.1.1.18", "alias"),
            (ENTERPRISES + "11863.6.56.1.1.2.1.1.1", "index"),
            (ENTERPRISES + "11863.6.56.1.1.2.1.1.2", "both"),
            (ENTERPRISES + "11863.6.56.1.1.2.1.1.7", "power"),
        ],
        "interfaces": 49152,
        "shown": {True: 1, False: 0},
        "told": {1: True, 0: False},
    },
}


def key(oid):
    return tuple(int(part) for part in oid.strip(".").split("."))


def text(value):
    return ("octet", " ".join("%02x" % byte for byte in value.encode())) if value else ("string", "")


class Pdu:
    def __init__(self, state):
        self.state = state
        self.model = MODELS[state["model"]]

    def shown(self, outlet):
        on = outlet["on"]
        return not on if time.time() < outlet.get("lies_until", 0) else on

    def value(self, holds, n, outlet):
        if holds == "index":
            return ("integer", str(n))
        if holds == "zero":
            return ("integer", "0")
        if holds == "label":
            return text(outlet["label"])
        if holds == "alias":
            return text(outlet["label"])
        if holds == "interface":
            return text("gigabitEthernet 1/0/%d" % n)
        if holds == "power":
            return ("gauge", str(140 + n if outlet["on"] else 0))
        if holds == "energy":
            return ("gauge", str(10 * n))
        if holds == "detection":
            return ("integer", "3" if outlet["on"] else "1")
        # Columns with a state: what may be written shows it too.
        number = self.model["shown"][self.shown(outlet)]
        if holds == "control":
            number = {on: number for number, on in self.model["told"].items()}[self.shown(outlet)]
        return ("integer", str(number))

    def rows(self):
        """Every object that there is: key, OID, what it holds, number of its outlet."""
        rows = []
        for column, holds in self.model["columns"]:
            for n, outlet in enumerate(self.state["outlets"], 1):
                index = self.model.get("group", "") + str(n)
                if holds in ("interface", "alias"):
                    index = str(self.model.get("interfaces", 0) + n)
                if holds == "label" and self.state.get("nameless"):
                    outlet = dict(outlet, label="")
                oid = column + "." + index
                rows.append((key(oid), oid, holds, n, outlet))
        return sorted(rows, key=lambda row: row[0])

    def get(self, oid):
        wanted = key(oid)
        return self.answer(next((row for row in self.rows() if row[0] == wanted), None))

    def getnext(self, oid):
        wanted = key(oid)
        return self.answer(next((row for row in self.rows() if row[0] > wanted), None))

    def answer(self, row):
        if row is None:
            return ["NONE"]
        _, oid, holds, n, outlet = row
        kind, value = self.value(holds, n, outlet)
        return ["." + oid, kind, value]

    def set(self, oid, kind, value):
        wanted = key(oid)
        row = next((row for row in self.rows() if row[0] == wanted), None)
        if row is None or row[2] not in ("both", "control"):
            return ["not-writable"]
        if kind != "integer":
            return ["wrong-type"]
        if int(value) not in self.model["told"]:
            return ["wrong-value"]
        on = self.model["told"][int(value)]
        outlet = self.state["outlets"][row[3] - 1]
        self.state["commands"] += 1
        if outlet["on"] != on and self.state["lies"]:
            outlet["lies_until"] = time.time() + self.state["lies"]
        outlet["on"] = on
        return ["DONE"]


def main():
    lines = sys.stdin
    path = sys.argv[1]
    while True:
        line = lines.readline()
        if not line:
            return
        command = line.strip()
        if not command:
            # snmpd sends an empty line behind each set.
            continue
        if command == "PING":
            answer = ["PONG"]
        else:
            oid = lines.readline().strip()
            with open(path, "r+", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                pdu = Pdu(json.load(file))
                if command == "get":
                    answer = pdu.get(oid)
                elif command == "getnext":
                    answer = pdu.getnext(oid)
                else:
                    kind, _, value = lines.readline().strip().partition(" ")
                    answer = pdu.set(oid, kind, value.strip('"'))
                    file.seek(0)
                    file.truncate()
                    json.dump(pdu.state, file)
        print("\n".join(answer), flush=True)


if __name__ == "__main__":
    main()
