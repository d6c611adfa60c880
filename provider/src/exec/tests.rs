//! Tests of the loader on detached memory.
