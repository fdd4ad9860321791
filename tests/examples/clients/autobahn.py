"""Cases of Autobahn's fuzzing client, for its own Python 2: `autobahn.py FOLDER HOST:PORT CASE...`.

Prints how many cases there were and, one a line, which failed.
"""

import collections
import json
import os
import subprocess
import sys

folder, address, cases = sys.argv[1], sys.argv[2], sys.argv[3:]
spec = os.path.join(folder, "spec.json")
servers = [{"agent": "echo", "url": "ws://" + address}]
with open(spec, "w") as file:
    json.dump({"outdir": os.path.join(folder, "reports"), "servers": servers, "cases": cases}, file)

wstest = os.path.join(os.path.dirname(sys.executable), "wstest")
with open(os.path.join(folder, "log"), "w") as log:
    status = subprocess.call([wstest, "-m", "fuzzingclient", "-s", spec], stdout=log, stderr=log)
if status != 0:
    sys.exit(open(os.path.join(folder, "log")).read())

with open(os.path.join(folder, "reports", "index.json")) as file:
    results = json.load(file)["echo"]
counts = collections.Counter(result["behavior"] for result in results.values())
print("%d cases: %s" % (len(results), ", ".join("%d %s" % (n, name) for name, n in sorted(counts.items()))))
for case, result in sorted(results.items()):
    # A server may find out that a text is invalid when all of the frame has come.
    right = result["behavior"] in ("OK", "NON-STRICT", "INFORMATIONAL")
    if not right or result["behaviorClose"] not in ("OK", "INFORMATIONAL"):
        print("%s: %s, close: %s" % (case, result["behavior"], result["behaviorClose"]))
