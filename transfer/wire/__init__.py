"""The wire format as pure code: bytes on one side, frozen types on the other."""
