//! What KVM does on the host at hand with a machine of a few lines: virtual CPUs that change threads, that are new, and
//! whose memory has its protection toggled. Prints figures (`--nocapture`); what they meant where they were taken stands
//! in the documentation of the modules that rest on them. Only what must hold everywhere is asserted.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it is a test, and figures are what it is for")]

#[path = "personality/mod.rs"]
mod personality;

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_RUNNABLE, KVMIO, kvm_mp_state, kvm_segment, kvm_sregs,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use personality::Rig;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use vmm_sys_util::ioctl::ioctl;
use vmm_sys_util::ioctl_io_nr;

mod request {
    super::ioctl_io_nr!(KVM_GET_STATS_FD, super::KVMIO, 0xce);
}

/// Bytes of the machine, which its tables map to themselves page by page.
const MEMORY: usize = 2 << 20;
const TABLES: usize = 0x1000;
const CODE: usize = 0x6000;
/// The page that is touched: a value to read, and behind it a word that lets the guest spin.
const DATA: usize = 0x1_0000;
const SPIN: usize = DATA + 8;
/// Reads the value, spins while it is told to, leaves, and begins again:
/// `mov rax, [DATA]; cmp byte ptr [SPIN], 0; jne .-18; out 0x10, al; jmp .-22`.
const LOOP: [u8; 22] = [
    0x48, 0x8b, 0x04, 0x25, 0x00, 0x00, 0x01, 0x00, 0x80, 0x3c, 0x25, 0x08, 0x00, 0x01, 0x00, 0x00, 0x75, 0xee, 0xe6,
    0x10, 0xeb, 0xea,
];
/// Entries of each kind that are timed.
const ROUNDS: usize = 32;

/// A machine that runs [`LOOP`] in ring 0.
struct Machine {
    vm: VmFd,
    cpuid: CpuId,
    memory: NonNull<u8>,
}

impl Machine {
    /// `None` where the environment says that there is no KVM.
    fn new() -> Option<Self> {
        if std::env::var_os("PICOVISOR_NO_KVM").is_some() {
            println!("skipped: PICOVISOR_NO_KVM is set");
            return None;
        }
        let kvm = Kvm::new().expect("this test needs KVM");
        let vm = kvm.create_vm().unwrap();
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap();
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), MEMORY, access, flags, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED);
        let machine = Self { vm, cpuid, memory: NonNull::new(memory.cast()).unwrap() };
        // Large pages of the host's would make one page's protection a matter of all.
        // SAFETY: the range is the mapping just made.
        assert_eq!(unsafe { libc::madvise(memory, MEMORY, libc::MADV_NOHUGEPAGE) }, 0);
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY as u64,
            userspace_addr: memory.expose_provenance() as u64,
        };
        // SAFETY: the mapping is never taken away.
        unsafe { machine.vm.set_user_memory_region(region) }.unwrap();
        for level in 0..3 {
            machine.store(TABLES + level * 0x1000, (TABLES + (level + 1) * 0x1000) as u64 | 0x23);
        }
        (0..512).for_each(|page| machine.store(TABLES + 0x3000 + page * 8, (page as u64 * 4096) | 0x63));
        for (at, code) in LOOP.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..code.len()].copy_from_slice(code);
            machine.store(CODE + at * 8, u64::from_le_bytes(word));
        }
        Some(machine)
    }

    /// Stores a word at a guest-physical address.
    fn store(&self, at: usize, value: u64) {
        assert!(at.is_multiple_of(8) && at < MEMORY);
        // SAFETY: the offset was just checked to lie in the mapping.
        let word = unsafe { self.memory.add(at) };
        // SAFETY: the word is mapped, writable and aligned.
        unsafe { word.cast::<u64>().write_volatile(value) };
    }

    /// Makes a virtual CPU that stands at the loop's start.
    fn vcpu(&self, number: u64) -> VcpuFd {
        let vcpu = self.vm.create_vcpu(number).unwrap();
        vcpu.set_cpuid2(&self.cpuid).unwrap();
        vcpu.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE }).unwrap();
        let mut sregs: kvm_sregs = vcpu.get_sregs().unwrap();
        (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (0x8005_0033, TABLES as u64, 1 << 5, 0xd00);
        let data = kvm_segment {
            selector: 16,
            limit: u32::MAX,
            type_: 3,
            present: 1,
            s: 1,
            db: 1,
            g: 1,
            ..kvm_segment::default()
        };
        (sregs.ss, sregs.ds, sregs.es, sregs.fs, sregs.gs) = (data, data, data, data, data);
        sregs.cs = kvm_segment { selector: 8, type_: 0xb, db: 0, l: 1, ..data };
        sregs.tr = kvm_segment { selector: 24, limit: 0x67, type_: 11, present: 1, ..kvm_segment::default() };
        vcpu.set_sregs(&sregs).unwrap();
        let mut registers = vcpu.get_regs().unwrap();
        (registers.rip, registers.rflags) = (CODE as u64, 2);
        vcpu.set_regs(&registers).unwrap();
        vcpu
    }

    /// Makes the data page executable and takes that back.
    fn toggle(&self) {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        for access in [access | libc::PROT_EXEC, access] {
            // SAFETY: the offset lies in the mapping.
            let page = unsafe { self.memory.add(DATA) };
            // SAFETY: one page of the machine's memory, which stays readable and writable.
            assert_eq!(unsafe { libc::mprotect(page.as_ptr().cast(), 4096, access) }, 0);
        }
    }
}

/// Runs a virtual CPU until it leaves; returns how long that took, and what it has read.
fn run(vcpu: &mut VcpuFd) -> (Duration, u64) {
    let start = Instant::now();
    let exit = vcpu.run().unwrap();
    let took = start.elapsed();
    assert!(matches!(exit, VcpuExit::IoOut(0x10, _)), "{exit:?}");
    (took, vcpu.get_regs().unwrap().rax)
}

/// One of the counters that KVM keeps of a machine or a virtual CPU; `None`: it keeps none of this name (or the host is
/// older than Linux 5.14).
fn counter(of: &impl AsRawFd, name: &str) -> Option<u64> {
    // SAFETY: the call takes no argument and returns a new descriptor.
    let fd = unsafe { ioctl(of, request::KVM_GET_STATS_FD()) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor was just made and is nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    let word = |at| {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, at).unwrap();
        u32::from_le_bytes(bytes)
    };
    // struct kvm_stats_header, struct kvm_stats_desc (linux/kvm.h).
    let [names, count, descriptors, data] = [4, 8, 16, 20].map(word);
    let descriptors = (0..u64::from(count)).map(|at| u64::from(descriptors) + at * (16 + u64::from(names)));
    for at in descriptors {
        let mut found = vec![0; name.len() + 1];
        file.read_exact_at(&mut found, at + 16).unwrap();
        if found.strip_suffix(&[0]) == Some(name.as_bytes()) {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, u64::from(data) + u64::from(word(at + 8))).unwrap();
            return Some(u64::from_le_bytes(bytes));
        }
    }
    None
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    println!("{what}: {:?} at the least, {:?} in the middle", times[0], times[times.len() / 2]);
}

#[test]
fn a_virtual_cpu_runs_on_whatever_thread() {
    let Some(machine) = Machine::new() else { return };
    let mut vcpu = machine.vcpu(0);
    machine.store(DATA, 7);
    run(&mut vcpu);
    report("KVM_RUN on the thread of the last one", (0..ROUNDS).map(|_| run(&mut vcpu).0).collect());
    // Two threads hand it to each other: each of its entries is on another thread than the last.
    let (times, timed) = channel();
    let (give, take) = (channel::<(VcpuFd, usize)>(), channel::<(VcpuFd, usize)>());
    let threads = [(take.0, give.1), (give.0.clone(), take.1)].map(|(on, from)| {
        let times = times.clone();
        thread::spawn(move || {
            for (mut vcpu, left) in from {
                let (took, read) = run(&mut vcpu);
                assert_eq!(read, 7);
                times.send(took).unwrap();
                if left == 0 || on.send((vcpu, left - 1)).is_err() {
                    return;
                }
            }
        })
    });
    give.0.send((vcpu, ROUNDS - 1)).unwrap();
    drop((give.0, times));
    report("KVM_RUN on another thread than the last one", timed.iter().collect());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_new_virtual_cpu_sees_what_the_others_see() {
    let Some(machine) = Machine::new() else { return };
    machine.store(DATA, 1);
    let mut old = machine.vcpu(0);
    assert_eq!(run(&mut old).1, 1);
    let (mut made, mut first, mut next) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..9 {
        machine.store(DATA, number);
        let start = Instant::now();
        let mut new = machine.vcpu(number);
        made.push(start.elapsed());
        let (took, read) = run(&mut new);
        assert_eq!(read, number);
        first.push(took);
        next.push(run(&mut new).0);
        assert_eq!(run(&mut old).1, number);
    }
    report("a virtual CPU made and set up", made);
    report("its first entry", first);
    report("its second entry", next);
}

#[test]
fn toggling_execute_permission_is_counted() {
    let Some(machine) = Machine::new() else { return };
    let mut vcpu = machine.vcpu(0);
    let flushes = || counter(&machine.vm, "remote_tlb_flush_requests");
    let Some(before) = flushes() else { return println!("this KVM keeps no counters") };
    run(&mut vcpu);
    let (mut flushed, mut exits, mut faults) = (0, 0, 0);
    let of = |vcpu: &VcpuFd| ["exits", "pf_taken"].map(|name| counter(vcpu, name).unwrap_or_default());
    for _ in 0..ROUNDS {
        let (start, [exits_before, faults_before]) = (flushes().unwrap(), of(&vcpu));
        machine.toggle();
        flushed += flushes().unwrap() - start;
        run(&mut vcpu);
        let [exits_after, faults_after] = of(&vcpu);
        (exits, faults) = (exits + exits_after - exits_before, faults + faults_after - faults_before);
    }
    println!("at rest: {flushed} flushes, {exits} exits and {faults} faults in {ROUNDS} toggles and entries");
    machine.store(SPIN, 1);
    let start = (flushes().unwrap(), of(&vcpu));
    thread::scope(|scope| {
        let runner = scope.spawn(|| {
            run(&mut vcpu);
            vcpu
        });
        (0..ROUNDS).for_each(|_| machine.toggle());
        machine.store(SPIN, 0);
        let vcpu = runner.join().unwrap();
        let ([exits, faults], end) = (of(&vcpu), flushes().unwrap());
        let (exits, faults) = (exits - start.1[0], faults - start.1[1]);
        println!("in the guest: {} flushes, {exits} exits and {faults} faults in {ROUNDS} toggles", end - start.0);
    });
    assert!(flushes().unwrap() >= before);
}

payload!(
    configures_tiles,
    "mov edi, 0x500100",
    "mov byte ptr [rdi], 1",
    "mov byte ptr [rdi + 16], 64",
    "mov byte ptr [rdi + 48], 16",
    ".byte 0xc4, 0xe2, 0x78, 0x49, 0x07", // ldtilecfg [rdi]
    "mov edi, 1",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

payload!(
    tells_the_tiles_palette,
    "mov edi, 0x500100",
    ".byte 0xc4, 0xe2, 0x79, 0x49, 0x07", // sttilecfg [rdi]
    "movzx edi, byte ptr [rdi]",
    "mov eax, 7",
    "syscall",
    "xor eax, eax",
    "syscall",
);

#[test]
fn tiles_of_one_process_do_not_reach_the_next() {
    // One virtual CPU, so that the second process gets the first one's.
    let Some(rig) = Rig::open(Some(1)) else { return };
    rig.run(configures_tiles());
    let configured = rig.script.notes().len();
    rig.run(tells_the_tiles_palette());
    println!("{configured} process could configure tiles, exceptions {:?}", rig.script.exceptions());
    let told = &rig.script.notes()[configured..];
    assert!(told.iter().all(|palette| *palette == 0), "{told:?}");
}
