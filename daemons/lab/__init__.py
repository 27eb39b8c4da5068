"""The lab: a world and up to eight providers on loopback, each daemon a process, from one command, without root."""
