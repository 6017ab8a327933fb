"""What the promises of docs/reliability.md are held against: hostile inputs, kills, events, memory.

    PYTHONPATH=tests python -m soak            # all of it, for as long as it takes
    PYTHONPATH=tests python -m soak --short    # the same in half a minute on an idle machine

`subjects` is the table of what takes a hostile peer's bytes by itself, `live` that of drivers at
work, `hostile` feeds them; `kills` has a domain end in the middle of a step; `flat` sends events
and explores schedules, and looks at memory meanwhile. All of it is on the simulator.
"""
