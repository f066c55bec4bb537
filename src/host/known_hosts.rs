//! Known host keys: a strict matcher of known_hosts files.
