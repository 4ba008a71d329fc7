"""What tests and sandboxes need: vendors' stand-ins, a connection's context, a clock that jumps, crash points."""
