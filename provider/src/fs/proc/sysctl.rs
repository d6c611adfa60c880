//! /proc/sys: the kernel's settings, as programs look them up. Those that can be changed from inside are [`super::settings`].

use crate::errno::Errno;
use crate::fs::dev::POOL_BITS;
use crate::fs::pseudo::Leaf;
use crate::kernel::release::{RELEASE, SYSTEM, VERSION};
use crate::mm::MMAP_MIN_ADDR;
use crate::task::{CurrentTask, PID_MAX};
use rustix::rand::{GetRandomFlags, getrandom};
use std::sync::OnceLock;

/// The settings with fixed values: path, mode, value without the newline.
const FIXED: &[(&str, u32, &str)] = &[
    ("fs/aio-max-nr", 0o644, "65536"),
    ("fs/dir-notify-enable", 0o644, "1"),
    ("fs/epoll/max_user_watches", 0o644, "5491511"),
    ("fs/inotify/max_queued_events", 0o644, "16384"),
    ("fs/inotify/max_user_instances", 0o644, "128"),
    ("fs/inotify/max_user_watches", 0o644, "65536"),
    ("fs/mount-max", 0o644, "4096"),
    ("fs/nr_open", 0o644, "1048576"),
    ("fs/overflowgid", 0o644, "65534"),
    ("fs/overflowuid", 0o644, "65534"),
    ("fs/pipe-max-size", 0o644, "1048576"),
    ("fs/pipe-user-pages-hard", 0o644, "0"),
    ("fs/pipe-user-pages-soft", 0o644, "16384"),
    ("fs/protected_fifos", 0o644, "0"),
    ("fs/protected_hardlinks", 0o644, "1"),
    ("fs/protected_regular", 0o644, "0"),
    ("fs/protected_symlinks", 0o644, "1"),
    ("fs/suid_dumpable", 0o644, "0"),
    ("kernel/cap_last_cap", 0o444, "40"),
    ("kernel/core_pattern", 0o644, "core"),
    ("kernel/core_pipe_limit", 0o644, "0"),
    ("kernel/core_uses_pid", 0o644, "0"),
    ("kernel/dmesg_restrict", 0o644, "1"),
    ("kernel/io_uring_disabled", 0o644, "2"),
    ("kernel/kptr_restrict", 0o644, "2"),
    ("kernel/ngroups_max", 0o444, "65536"),
    ("kernel/osrelease", 0o444, RELEASE),
    ("kernel/ostype", 0o444, SYSTEM),
    ("kernel/overflowgid", 0o644, "65534"),
    ("kernel/overflowuid", 0o644, "65534"),
    ("kernel/panic", 0o644, "0"),
    ("kernel/perf_event_paranoid", 0o644, "2"),
    ("kernel/printk", 0o644, "4\t4\t1\t7"),
    ("kernel/pty/max", 0o644, "4096"),
    ("kernel/pty/nr", 0o444, "0"),
    ("kernel/random/urandom_min_reseed_secs", 0o644, "60"),
    ("kernel/randomize_va_space", 0o644, "2"),
    ("kernel/sched_rr_timeslice_ms", 0o644, "100"),
    ("kernel/sched_rt_period_us", 0o644, "1000000"),
    ("kernel/sched_rt_runtime_us", 0o644, "950000"),
    ("kernel/seccomp/actions_avail", 0o444, "kill_process kill_thread trap errno user_notif trace log allow"),
    ("kernel/tainted", 0o644, "0"),
    ("kernel/version", 0o444, VERSION),
    ("net/core/optmem_max", 0o644, "131072"),
    ("net/core/rmem_default", 0o644, "212992"),
    ("net/core/rmem_max", 0o644, "212992"),
    ("net/core/somaxconn", 0o644, "4096"),
    ("net/core/wmem_default", 0o644, "212992"),
    ("net/core/wmem_max", 0o644, "212992"),
    ("net/ipv4/ip_unprivileged_port_start", 0o644, "1024"),
    ("net/ipv4/tcp_available_congestion_control", 0o444, "reno cubic"),
    ("net/ipv4/tcp_congestion_control", 0o644, "cubic"),
    ("net/ipv4/tcp_fin_timeout", 0o644, "60"),
    ("net/ipv4/tcp_sack", 0o644, "1"),
    ("net/ipv4/tcp_rmem", 0o644, "4096\t131072\t6291456"),
    ("net/ipv4/tcp_wmem", 0o644, "4096\t16384\t4194304"),
    ("net/ipv6/auto_flowlabels", 0o644, "1"),
    ("net/ipv6/bindv6only", 0o644, "0"),
    ("net/ipv6/conf/all/disable_ipv6", 0o644, "0"),
    ("net/ipv6/ip6frag_time", 0o644, "60"),
    ("net/ipv6/ip_nonlocal_bind", 0o644, "0"),
    ("net/unix/max_dgram_qlen", 0o644, "10"),
    ("user/max_user_namespaces", 0o644, "0"),
    ("vm/admin_reserve_kbytes", 0o644, "8192"),
    ("vm/dirty_background_ratio", 0o644, "10"),
    ("vm/dirty_ratio", 0o644, "20"),
    ("vm/legacy_va_layout", 0o644, "0"),
    ("vm/max_map_count", 0o644, "65530"),
    ("vm/memfd_noexec", 0o644, "0"),
    ("vm/min_free_kbytes", 0o644, "67584"),
    ("vm/nr_hugepages", 0o644, "0"),
    ("vm/nr_overcommit_hugepages", 0o644, "0"),
    ("vm/overcommit_kbytes", 0o644, "0"),
    ("vm/overcommit_memory", 0o644, "0"),
    ("vm/overcommit_ratio", 0o644, "50"),
    ("vm/page-cluster", 0o644, "3"),
    ("vm/panic_on_oom", 0o644, "0"),
    ("vm/swappiness", 0o644, "60"),
    ("vm/unprivileged_userfaultfd", 0o644, "0"),
    ("vm/vfs_cache_pressure", 0o644, "100"),
];

/// Open files that a machine of this memory size permits: one for each 10 KiB, as Linux computes it.
const BYTES_PER_FILE: u64 = 10 * 1024;

/// All settings, by path.
pub(super) fn leaves() -> Vec<Leaf> {
    let fixed = FIXED.iter().map(|(path, mode, value)| Leaf::fixed(*path, format!("{value}\n")).mode(*mode));
    let rendered = [
        Leaf::rendered("fs/aio-nr", |reader| number(reader.kernel().aio().events())),
        Leaf::rendered("fs/file-max", |reader| number(file_max(reader))).mode(0o644),
        Leaf::rendered("fs/file-nr", file_count),
        Leaf::rendered("kernel/domainname", |reader| line(reader.namespaces().uts.names().domain)).mode(0o644),
        Leaf::rendered("kernel/hostname", |reader| line(reader.namespaces().uts.names().host)).mode(0o644),
        Leaf::rendered("kernel/pid_max", |_| number(PID_MAX)).mode(0o644),
        Leaf::rendered("kernel/random/boot_id", |_| Ok(boot_id().as_bytes().to_vec())),
        Leaf::rendered("kernel/random/entropy_avail", |_| number(POOL_BITS)),
        Leaf::rendered("kernel/random/poolsize", |_| number(POOL_BITS)),
        Leaf::rendered("kernel/random/uuid", |_| Ok(random_uuid()?.into_bytes())),
        Leaf::rendered("kernel/random/write_wakeup_threshold", |_| number(POOL_BITS)).mode(0o644),
        Leaf::rendered("kernel/threads-max", |reader| number(reader.kernel().config().limits.pids)).mode(0o644),
        Leaf::rendered("vm/mmap_min_addr", |_| number(MMAP_MIN_ADDR)).mode(0o644),
    ];
    let mut leaves: Vec<Leaf> = fixed.chain(rendered).chain(super::settings::leaves()).collect();
    leaves.sort_by(|a, b| a.path.cmp(&b.path));
    leaves
}

fn number(value: impl std::fmt::Display) -> Result<Vec<u8>, Errno> {
    Ok(format!("{value}\n").into_bytes())
}

fn file_max(reader: &CurrentTask<'_>) -> u64 {
    let limits = reader.kernel().config().limits;
    (limits.memory / BYTES_PER_FILE).max(limits.files)
}

fn file_count(reader: &CurrentTask<'_>) -> Result<Vec<u8>, Errno> {
    let open: usize = reader.kernel().tasks().all().iter().filter_map(|task| Some(task.files()?.numbers().len())).sum();
    Ok(format!("{open}\t0\t{}\n", file_max(reader)).into_bytes())
}

fn line(mut name: Vec<u8>) -> Result<Vec<u8>, Errno> {
    name.push(b'\n');
    Ok(name)
}

/// The sandbox's identity as a machine: it stays the same as long as the sandbox lives.
fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| random_uuid().unwrap_or_else(|_| "00000000-0000-4000-8000-000000000000\n".to_owned()))
}

/// A random UUID of version 4 with a newline.
fn random_uuid() -> Result<String, Errno> {
    let mut bytes = [0; 16];
    // Up to 256 bytes come whole, see getrandom(2).
    getrandom(&mut bytes[..], GetRandomFlags::empty())?;
    let random = u128::from_be_bytes(bytes);
    let versioned = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{versioned:032x}");
    Ok(format!("{}-{}-{}-{}-{}\n", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_version_and_variant() {
        let uuid = random_uuid().unwrap();
        let groups: Vec<usize> = uuid.trim_end().split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        assert_ne!(uuid, random_uuid().unwrap());
    }

    #[test]
    fn the_boot_identity_stays() {
        assert_eq!(boot_id(), boot_id());
    }

    #[test]
    fn settings_exist_on_the_host_too() {
        let absent: Vec<_> = FIXED
            .iter()
            .map(|(path, ..)| *path)
            .filter(|path| !std::path::Path::new("/proc/sys").join(path).exists())
            // What an older or a smaller host kernel may lack.
            .filter(|path| {
                !path.starts_with("net/") && !matches!(*path, "kernel/io_uring_disabled" | "vm/memfd_noexec")
            })
            .collect();
        assert_eq!(absent, Vec::<&str>::new());
    }
}
