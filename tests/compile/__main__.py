"""python -m tests.compile: compiles every shipped kernel and rewrites the table of the installed triton's version."""

from tests.compile import table
from tests.compile.cubins import compiled
from tests.compile.shipped import shipped

made: table.Table = {}
for each in shipped():
    made |= compiled([each])
    print(*each.key, made[each.key], flush=True)
table.write(made)
