//! System calls: the table, argument decoding, tracing, and the handlers by subject.
