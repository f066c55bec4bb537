//! Observe: one probe a node and few lists a cluster give the facts.
