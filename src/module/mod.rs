//! Modules: options and the resources they become.
