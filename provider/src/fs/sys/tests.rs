use super::super::{BufferSink, LastLink, OpenFlags};
use crate::cpus::Cpus;
use crate::fs::pseudo::bits::list;
use crate::task::CurrentTask;
use crate::testing::{config, fixture_with};

fn read(task: &CurrentTask<'_>, path: &str) -> String {
    let file = task.kernel().namespace().open(task, None, path.as_bytes(), OpenFlags::empty(), 0).unwrap();
    let mut bytes = vec![0; 65536];
    let got = file.read(task, &mut BufferSink::new(&mut bytes)).unwrap();
    String::from_utf8(bytes[..got].to_vec()).unwrap()
}

#[test]
fn processors_are_the_sandboxs() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    let count = Cpus::of_host(2).count();
    let root = "/sys/devices/system/cpu";
    assert_eq!(read(&task, &format!("{root}/online")), format!("{}\n", list(count)));
    assert_eq!(read(&task, &format!("{root}/cpu0/topology/core_id")), "0\n");
    assert_eq!(read(&task, &format!("{root}/cpu0/node0/cpulist")), format!("{}\n", list(count)));
    let beyond = format!("{root}/cpu{count}");
    assert!(task.kernel().namespace().walk(&task, None, beyond.as_bytes(), LastLink::Follow).is_err());
}

#[test]
fn attributes_of_the_host_have_the_same_shape() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    let paths = [
        "/sys/devices/system/cpu/cpu0/topology/core_siblings_list",
        "/sys/devices/system/node/node0/distance",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
        "/sys/class/net/lo/mtu",
        "/sys/class/net/lo/address",
    ];
    let shape = |text: &str| -> Vec<usize> { text.lines().map(|line| line.split_whitespace().count()).collect() };
    for path in paths {
        // A small host kernel may lack some.
        if let Ok(host) = std::fs::read_to_string(path) {
            assert_eq!(shape(&read(&task, path)), shape(&host), "{path}");
        }
    }
}

#[test]
fn memory_is_the_limit() {
    let mut fixture = fixture_with(config());
    let task = fixture.current();
    let text = read(&task, "/sys/devices/system/node/node0/meminfo");
    assert!(text.starts_with("Node 0 MemTotal:         262144 kB\n"), "{text}");
}
