"""`python -m activations`: the command."""

from activations.cli import main

main()
