"""python -m tests.compile: compiles every shipped kernel and rewrites the table of the installed triton's version."""

import tempfile
from pathlib import Path

from tests.compile import table
from tests.compile.cubins import compiled
from tests.compile.shipped import shipped

with tempfile.TemporaryDirectory() as folder:
    made: table.Table = {}
    for each in shipped():
        made[each.key] = compiled(each, Path(folder))
        print(*each.key, made[each.key], flush=True)
    table.write(made)
