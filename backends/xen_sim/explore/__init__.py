"""The explorer: tries a program's ways until one breaks a promise, and gives a token for it.

The language that every engine speaks, whatever it explores:

    course     one way through a program, as its deviations from the ordinary course
    token      a course in one word
    finding    a promise that was broken
    report     what happened, step by step, as a table
    verdict    found; exhausted; exhausted at k preemptions; not exhausted
    engine     what the explorer asks of an engine that makes runs
"""
