//! What runs inside the virtual machine, and the constants both sides share.
#![no_std]
