//! Tests of memory policy on detached memory.
