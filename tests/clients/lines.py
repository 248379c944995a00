"""How the Python drivers are talked to: one JSON object a line, `{"do": NAME, "args": [..]}`, answered
by one line, `{"ok": VALUE}` or `{"error": {"type": .., "message": .., ..}}`. Ends with the input."""

import json
import os
import sys


def serve(steps, describe):
    """Answers each line by the step that it names. `describe` turns an exception into an object with
    more than its type and text, or None."""
    # Libraries that print must not disturb the answers.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"ok": steps[asked["do"]](*asked.get("args", []))}
        except Exception as error:  # whatever the library raises is the result
            told = {"type": type(error).__name__, "message": str(error)}
            answer = {"error": told | (describe(error) or {})}
        out.write(json.dumps(answer) + "\n")
        out.flush()
