//! Program images: ELF, scripts, the initial stack.
