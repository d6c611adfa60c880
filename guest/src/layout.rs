//! Where the supervisor pages of a virtual machine lie, and the ports by which its trap code leaves the guest.
//!
//! All of it is in the last top-level slot (511), which no program can map or unmap. The trap code and the descriptor
//! tables are one set for the machine; the task-state segment and the stacks belong to one virtual CPU each, at the
//! same addresses.

/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// Where the trap image is linked and mapped. Any page in the kernel code model's range would do; it is none that a
/// kernel has something at, which is where programs look when they want a fault in the supervisor half.
pub const IMAGE_BASE: u64 = 0xffff_ffff_9d5c_3000;
/// The page SYSCALL enters. On kvm-pvm, where SYSCALL does not leave ring 3, user mode may execute it, and therefore
/// read it: x86 has no execute-only pages without protection keys, which guests there don't have. It holds code that
/// is the same everywhere and no secret, and a jump to it is a system call that returns to RCX; but on Linux both fault.
pub const SYSCALL_PAGE: u64 = IMAGE_BASE;
/// The page of the exception stubs and the ways back.
pub const TRAP_PAGE: u64 = IMAGE_BASE + PAGE;
/// The page of the code that finds out how SYSCALL behaves. It is mapped in the user half, and only for the probe.
pub const PROBE_PAGE: u64 = IMAGE_BASE + 2 * PAGE;
/// Pages in the image.
pub const IMAGE_PAGES: u64 = 3;
/// The interrupt descriptor table, a page.
pub const IDT: u64 = IMAGE_BASE + 3 * PAGE;
/// The global descriptor table.
pub const GDT: u64 = IMAGE_BASE + 4 * PAGE;
/// The virtual CPU's task-state segment.
pub const TSS: u64 = IMAGE_BASE + 5 * PAGE;
/// The virtual CPU's interrupt stacks.
pub const STACKS: u64 = IMAGE_BASE + 6 * PAGE;
/// One past the last supervisor page.
pub const END: u64 = IMAGE_BASE + 7 * PAGE;

/// Bytes between two exception stubs.
pub const STUB_STRIDE: u64 = 16;
/// Exception vectors that have a stub: 0 to 31; after them comes the stub of [`LEGACY_VECTOR`].
pub const VECTORS: u8 = 32;
/// `int 0x80`.
pub const LEGACY_VECTOR: u8 = 0x80;

/// The port of a system call. The I/O bitmap opens exactly this one to ring 3 on kvm-pvm.
pub const SYSCALL_PORT: u8 = 0x10;
/// The port of exception vector 0; vector n has this plus n, and `int 0x80` follows vector 31.
pub const VECTOR_PORT: u8 = 0x20;

/// The instruction that goes back from a system call: RIP from RCX, RFLAGS from R11 (hardware virtualization only).
pub const SYSRET: u64 = SYSCALL_PAGE + 0x10;
/// The instruction that goes back with a frame from the stack.
pub const IRET: u64 = TRAP_PAGE + 0x400;
/// As [`IRET`], after loading RAX into CR3 and the real RAX from the top of the stack.
pub const SWITCH_IRET: u64 = TRAP_PAGE + 0x410;

/// The selector of ring-0 code.
pub const KERNEL_CODE: u16 = 0x08;
/// The selector of ring-0 data; SYSCALL wants it behind the code.
pub const KERNEL_DATA: u16 = 0x10;
/// The selector of ring-3 data. SYSRET wants it in front of the code; as on Linux, whose programs see 0x2b and 0x33.
pub const USER_DATA: u16 = 0x2b;
/// The selector of ring-3 code.
pub const USER_CODE: u16 = 0x33;
/// The selector of the task-state segment (two entries).
pub const TASK: u16 = 0x40;
/// What STAR's upper half says: SYSRET's code is this plus 16, its stack segment this plus 8.
pub const SYSRET_BASE: u16 = 0x23;
