"""What the promises of docs/reliability.md are held against: hostile inputs, kills, events, memory.

    PYTHONPATH=tests python -m soak            # all but the lab, for as long as it takes
    PYTHONPATH=tests python -m soak --short    # the same in half a minute

`subjects` is the table of what takes a hostile peer's bytes, `hostile` feeds them; `kills` has a
domain end in the middle of a step, on the simulator, and `lab` guests on a real Xen; `flat` sends
events and explores schedules, and looks at memory meanwhile.
"""
