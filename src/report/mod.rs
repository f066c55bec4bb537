//! Reports: a plan as text and as JSON.
