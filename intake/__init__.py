"""The online room: takes orders and seals them, and can never open one."""
