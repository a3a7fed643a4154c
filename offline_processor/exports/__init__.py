"""Files and paper that name people, each for one declared purpose: carrier, feedback, packing slips, address labels."""
