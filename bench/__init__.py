"""Speed and memory of the hub next to bare floors on the same machine: `python -m bench [names] [--quick]`."""
