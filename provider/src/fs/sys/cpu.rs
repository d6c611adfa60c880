//! /sys/devices/system/cpu.

use crate::fs::pseudo::Leaf;
use crate::fs::pseudo::bits::{first, list, single};

/// The attributes for this many processors.
pub(super) fn leaves(cpus: usize) -> Vec<Leaf> {
    let root = "devices/system/cpu";
    let all = list(cpus);
    let mut leaves = vec![
        Leaf::fixed(format!("{root}/isolated"), "\n"),
        Leaf::fixed(format!("{root}/kernel_max"), format!("{}\n", cpus - 1)),
        Leaf::fixed(format!("{root}/offline"), "\n"),
        Leaf::fixed(format!("{root}/online"), format!("{all}\n")),
        Leaf::fixed(format!("{root}/possible"), format!("{all}\n")),
        Leaf::fixed(format!("{root}/present"), format!("{all}\n")),
        Leaf::fixed(format!("{root}/smt/active"), "0\n"),
        Leaf::fixed(format!("{root}/smt/control"), "notsupported\n"),
    ];
    let caches = host_caches();
    for cpu in 0..cpus {
        let own = format!("{root}/cpu{cpu}");
        leaves.extend(topology(&own, cpu, cpus));
        for (index, cache) in caches.iter().enumerate() {
            leaves.extend(cache.leaves(&format!("{own}/cache/index{index}"), cpu, cpus));
        }
        leaves.push(Leaf::link(format!("{own}/node0"), "../../node/node0"));
        leaves.push(Leaf::link(format!("{own}/subsystem"), "../../../../bus/cpu"));
    }
    leaves
}

/// A processor is a core of its own; all are in one die and one package.
fn topology(own: &str, cpu: usize, cpus: usize) -> Vec<Leaf> {
    let (this, all) = (single(cpu, cpus), first(cpus, cpus));
    let (this_list, all_list) = (cpu.to_string(), list(cpus));
    [
        ("cluster_cpus", &this),
        ("cluster_cpus_list", &this_list),
        ("cluster_id", &"65535".to_owned()),
        ("core_cpus", &this),
        ("core_cpus_list", &this_list),
        ("core_id", &this_list),
        ("core_siblings", &all),
        ("core_siblings_list", &all_list),
        ("die_cpus", &all),
        ("die_cpus_list", &all_list),
        ("die_id", &"0".to_owned()),
        ("package_cpus", &all),
        ("package_cpus_list", &all_list),
        ("physical_package_id", &"0".to_owned()),
        ("thread_siblings", &this),
        ("thread_siblings_list", &this_list),
    ]
    .into_iter()
    .map(|(name, value)| Leaf::fixed(format!("{own}/topology/{name}"), format!("{value}\n")))
    .collect()
}

/// The attributes of a cache that do not depend on the processor.
const CACHE_ATTRIBUTES: &[&str] = &[
    "coherency_line_size",
    "level",
    "number_of_sets",
    "physical_line_partition",
    "size",
    "type",
    "ways_of_associativity",
];

/// Caches of a processor at the most: two of the first level and three more.
const MOST_CACHES: usize = 5;

/// A cache of the host's first processor.
#[derive(Debug)]
struct Cache {
    attributes: Vec<(&'static str, String)>,
    level: u32,
}

/// The host's caches: libraries choose block sizes by them. None where the host shows none.
fn host_caches() -> Vec<Cache> {
    let read = |index: usize, name: &str| {
        std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}")).ok()
    };
    let cache = |index: usize| {
        let attributes: Vec<_> = CACHE_ATTRIBUTES.iter().filter_map(|name| Some((*name, read(index, name)?))).collect();
        let level = attributes.iter().find(|(name, _)| *name == "level")?.1.trim().parse().ok()?;
        Some(Cache { attributes, level })
    };
    (0..MOST_CACHES).map_while(cache).collect()
}

impl Cache {
    /// The first two levels belong to a core, the third to the package.
    fn leaves(&self, own: &str, cpu: usize, cpus: usize) -> Vec<Leaf> {
        let (mask, numbers, id) =
            if self.level < 3 { (single(cpu, cpus), cpu.to_string(), cpu) } else { (first(cpus, cpus), list(cpus), 0) };
        let fixed = self.attributes.iter().map(|(name, value)| Leaf::fixed(format!("{own}/{name}"), value.clone()));
        fixed
            .chain([
                Leaf::fixed(format!("{own}/id"), format!("{id}\n")),
                Leaf::fixed(format!("{own}/shared_cpu_list"), format!("{numbers}\n")),
                Leaf::fixed(format!("{own}/shared_cpu_map"), format!("{mask}\n")),
            ])
            .collect()
    }
}
