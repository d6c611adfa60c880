//! /sys/kernel and the clock source.

use crate::fs::pseudo::Leaf;

/// The attributes with their values, without the newline.
const FIXED: &[(&str, u32, &str)] = &[
    ("kernel/address_bits", 0o444, "64"),
    ("kernel/cpu_byteorder", 0o444, "little"),
    ("kernel/mm/hugepages/hugepages-2048kB/free_hugepages", 0o444, "0"),
    ("kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", 0o644, "0"),
    ("kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", 0o644, "0"),
    ("kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", 0o444, "0"),
    ("kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages", 0o444, "0"),
    // Large aligned anonymous blocks get large pages whether a program asks for them or not.
    ("kernel/mm/transparent_hugepage/defrag", 0o644, "always defer defer+madvise [madvise] never"),
    ("kernel/mm/transparent_hugepage/enabled", 0o644, "[always] madvise never"),
    ("kernel/mm/transparent_hugepage/hpage_pmd_size", 0o444, "2097152"),
    ("kernel/mm/transparent_hugepage/khugepaged/defrag", 0o644, "0"),
    ("kernel/mm/transparent_hugepage/shmem_enabled", 0o644, "always within_size advise [never] deny force"),
    ("kernel/mm/transparent_hugepage/use_zero_page", 0o644, "0"),
    ("kernel/uevent_seqnum", 0o444, "0"),
    ("devices/system/clocksource/clocksource0/available_clocksource", 0o444, "tsc "),
    ("devices/system/clocksource/clocksource0/current_clocksource", 0o644, "tsc"),
];

/// The attributes.
pub(super) fn leaves() -> Vec<Leaf> {
    FIXED.iter().map(|(path, mode, value)| Leaf::fixed(*path, format!("{value}\n")).mode(*mode)).collect()
}
