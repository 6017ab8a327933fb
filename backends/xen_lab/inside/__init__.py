"""What runs inside the lab's domains: the agent, the half of a scenario, the channel to both.

Standard library alone, so that the agent runs whatever the application needs or lacks.
"""
